package main

import (
	"cmp"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/console"
	"github.com/kidoban/kidoban/limit"
)

// openConsole makes the pages for people.
func (s *service) openConsole(started time.Time) {
	s.console = console.New(s.conf.PublicURL, s.conf.Name, console.Deps{
		Store: s.db, Auth: s.as, Gateway: s.gate, Journal: s.journal, Meters: s.meters, Scanner: s.decide.scanner,
		Pages:     []console.Link{{Path: "/decisions", Title: map[string]string{"en": "Decisions", "ja": "判断待ち", "zh": "待您决定"}, Calls: true}},
		Endpoints: func() []console.Endpoint { return s.config().endpoints() },
		Limits:    func() limit.Limits { l, _ := s.config().limits(); return l }, // checked when the config came into force
		Settings:  func() console.Settings { return s.settings(started) },
		Address:   s.address, Log: s.log,
	})
}

// endpoints are the addresses that programs connect to, that of all servers first.
func (c gatewayConfig) endpoints() []console.Endpoint {
	var out []console.Endpoint
	if on(c.Aggregate) {
		out = append(out, console.Endpoint{Name: "kidoban", URL: c.PublicURL + "/mcp"})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		out = append(out, console.Endpoint{Name: name, Title: cmp.Or(c.Servers[name].Title, name), URL: c.PublicURL + "/s/" + name + "/mcp"})
	}
	return out
}

// consolePath is where the console begins.
func (c gatewayConfig) consolePath() string {
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return "/console"
	}
	return strings.TrimSuffix(u.Path, "/") + "/console"
}

// settings is what the console shows of the config in force.
func (s *service) settings(started time.Time) console.Settings {
	conf := s.config()
	engine := "SQLite"
	if s.db.Postgres() {
		engine = "PostgreSQL"
	}
	text, err := conf.shown()
	if err != nil {
		text = []byte("the configuration cannot be shown")
	}
	return console.Settings{Version: kidoban.Version, Started: started, Database: engine, CIMDMode: conf.Registration.CIMDMode, Config: string(text)}
}

// shown is the config as text, without secrets. Members that nobody set are left out:
// their zeros are not the defaults that apply.
func (c gatewayConfig) shown() ([]byte, error) {
	return yaml.MarshalWithOptions(c.withoutSecrets(), yaml.OmitEmpty(), yaml.OmitZero())
}

// hiddenValue stands where a secret might.
const hiddenValue = "(hidden)"

// secretWord finds names of options that hold secrets on command lines.
var secretWord = regexp.MustCompile(`(?i)(secret|token|passw|api-?key|credential)`)

// withoutSecrets is the config with everything hidden that could be one: the
// password of the database, values of headers and of environments, and what
// follows an option with such a name.
func (c gatewayConfig) withoutSecrets() gatewayConfig {
	if u, err := url.Parse(c.Database); err == nil && u.Scheme != "" && u.Host != "" {
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), "hidden")
		}
		if q := u.Query(); q.Has("password") {
			q.Set("password", "hidden")
			u.RawQuery = q.Encode()
		}
		c.Database = u.String()
	}
	servers := map[string]serverConfig{}
	for name, sc := range c.Servers {
		sc.Headers, sc.Env = hideValues(sc.Headers), hideValues(sc.Env)
		command := make([]string, len(sc.Command))
		after := false
		for i, a := range sc.Command {
			switch opt, _, assigned := strings.Cut(a, "="); {
			case after || secretLooking(a):
				command[i], after = hiddenValue, false
			case assigned && secretWord.MatchString(opt):
				command[i] = opt + "=" + hiddenValue
			default:
				command[i], after = a, strings.HasPrefix(a, "-") && secretWord.MatchString(a)
			}
		}
		sc.Command = command
		if u, err := url.Parse(sc.URL); err == nil && u.RawQuery != "" {
			u.RawQuery = "hidden"
			sc.URL = u.String()
		}
		servers[name] = sc
	}
	c.Servers = servers
	return c
}

func hideValues(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k := range m {
		out[k] = hiddenValue
	}
	return out
}
