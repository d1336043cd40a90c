package main

// censusCmd holds the commands of the census.
type censusCmd struct {
	Selftest censusSelftestCmd `cmd:"" help:"Start a population on loopback, measure it, compare with its ground truth."`
}
