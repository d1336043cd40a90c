-- Which servers a consent for the endpoint of all servers named, see authserver's
-- coverage.go. Empty: given before this was kept; the program fixes it at its next
-- start, to what is configured then.
ALTER TABLE codes ADD COLUMN covers TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN covers TEXT NOT NULL DEFAULT '';
ALTER TABLE consents ADD COLUMN covers TEXT NOT NULL DEFAULT '';
