package census

import "testing"

// TestRobotsRules follows RFC 9309 §2.2.2, §2.2.3 and §5.2.
func TestRobotsRules(t *testing.T) {
	for _, c := range []struct {
		file, path string
		refused    bool
	}{
		{"Disallow: /", "/mcp", true},
		{"Disallow: /mcp", "/mcp", true},
		{"Disallow: /mcp", "/mcp/v1?x=1", true},
		{"Disallow: /mcp", "/", false},
		{"Disallow: /mcp$", "/mcp", true},
		{"Disallow: /mcp$", "/mcp/v1", false},
		{"Disallow: /*/private", "/a/b/private/x", true},
		{"Disallow: /*.php$", "/a.php?x", false},
		{"Disallow: /*.php$", "/a.php.b.php", true},
		{"Disallow: /a*b*c$", "/abc-c", true},
		{"Disallow: /a*b*c$", "/ac-b", false},
		{"Disallow: /\nAllow: /mcp", "/mcp", false},
		{"Allow: /mcp\nDisallow: /mcp", "/mcp", false},
		{"Disallow: /mcp\nAllow: /mcp", "/mcp", false},
		{"Allow: /m\nDisallow: /mcp", "/mcp", true},
		{"Disallow: /m%63p", "/mcp", true},
		{"Disallow:", "/mcp", false},
		{"Disallow: /mcp # not here", "/mcp", true},
		{"Crawl-delay: 3\nDisallow: /mcp", "/mcp", true},
		{"", "/mcp", false},
	} {
		for _, name := range []string{"kidoban", "Kidoban/1.0"} {
			if got := parseRobots([]byte("User-agent: " + name + "\n" + c.file)).refuse(c.path); got != c.refused {
				t.Errorf("%q for %s: refused %v", c.file, c.path, got)
			}
		}
		if parseRobots([]byte("User-agent: *\n" + c.file)).refuse(c.path) {
			t.Errorf("%q is for others", c.file)
		}
	}
	both := []byte("User-agent: kidoban\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\nuser-agent: KIDOBAN\ndisallow: /b\n")
	if r := parseRobots(both); !r.refuse("/a") || !r.refuse("/b") || r.refuse("/c") {
		t.Errorf("two groups: %v", r)
	}
}

// FuzzRobots: no file and no path makes the reader fail, and a rule for everything
// keeps from everything.
func FuzzRobots(f *testing.F) {
	f.Add("Disallow: /*a*b$", "/xaab")
	f.Fuzz(func(t *testing.T, file, path string) {
		parseRobots([]byte("User-agent: kidoban\n" + file)).refuse(path)
		if !parseRobots([]byte("User-agent: kidoban\nDisallow: /\n")).refuse("/" + path) {
			t.Errorf("%q is not refused", path)
		}
	})
}
