package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
	"github.com/kidoban/kidoban/audit/browser"
	"github.com/kidoban/kidoban/lab"
)

// verifyCmd proves the tester: it starts a lab server for each case of the
// matrix, audits it over HTTP like anyone else, and compares what was found with
// what the lab declares.
type verifyCmd struct {
	Tiers    []string `help:"Tiers to verify: all up to T2, T3 or T4." default:"T0,T1,T2,T3,T4" sep:","`
	Only     []string `help:"Only these switches (catalogue keys)." sep:","`
	Profiles []string `help:"Only these profiles." sep:","`
	Eras     []string `help:"Only these eras: modern, legacy." sep:","`
	JSON     bool     `name:"json" help:"Print one JSON document instead of the table."`
	Jobs     int      `help:"Cases at a time." default:"4"`
	Sample   bool     `help:"Take every switch once, in profiles and eras that take turns, and every fourth of the other cases."`
	Passive  bool     `help:"Judge the recorded traffic of an ordinary client instead: nothing is sent by the audit."`
}

// verifyResult is one case of the matrix and how it ended.
type verifyResult struct {
	Name      string   `json:"name"`
	Group     string   `json:"group"` // switch, off, truncation, noise, chain
	Flaws     []string `json:"flaws"`
	Profile   string   `json:"profile"`
	Era       string   `json:"era"`
	Issuer    string   `json:"issuer"` // root, path
	Tokens    string   `json:"tokens"` // opaque, jwt
	Expect    []string `json:"expect"`
	Found     []string `json:"found"`
	Missed    []string `json:"missed,omitempty"`
	Extra     []string `json:"extra,omitempty"`
	Undecided []string `json:"undecided,omitempty"` // expected to be undecided here, with the reason seen
	Chains    []string `json:"chains,omitempty"`
	OK        bool     `json:"ok"`
	Why       string   `json:"why,omitempty"`
	Requests  int      `json:"requests"`
	outcomes  map[string]kidoban.Result
}

// verifyReport is what `kidoban lab verify --json` prints.
type verifyReport struct {
	Schema    string         `json:"schema"`
	Precision float64        `json:"precision"`
	Recall    float64        `json:"recall"`
	Cases     int            `json:"cases"`
	Failed    int            `json:"failed"`
	Tiers     []string       `json:"tiers"`
	Results   []verifyResult `json:"results"`
}

// named refuses names that choose nothing: a matrix without cases proves nothing.
func (c *verifyCmd) named() error {
	for _, k := range c.Only {
		if !slices.ContainsFunc(lab.Switches(), func(s lab.Switch) bool { return s.Key == k }) {
			return kidoban.Errorf(kidoban.KindUsage, "there is no switch %q (kidoban lab list shows all)", k)
		}
	}
	for _, p := range c.Profiles {
		if !slices.Contains(lab.Profiles(), p) {
			return kidoban.Errorf(kidoban.KindUsage, "there is no profile %q; choose from %s", p, strings.Join(lab.Profiles(), ", "))
		}
	}
	for _, e := range c.Eras {
		if e != "modern" && e != "legacy" {
			return kidoban.Errorf(kidoban.KindUsage, "there is no era %q here; choose from modern, legacy", e)
		}
	}
	return nil
}

// Run verifies the matrix and exits with 1 when a case is not as declared.
func (c *verifyCmd) Run(e *env) error {
	if err := c.named(); err != nil {
		return err
	}
	cases, err := c.matrix()
	if err != nil {
		return err
	}
	if c.Passive {
		cases, c.Tiers = c.passiveMatrix(), []string{"T0"}
	}
	if c.Sample {
		cases = sample(cases)
	}
	results := make([]verifyResult, len(cases))
	driver, closeBrowser, err := c.browser(e)
	if err != nil {
		return err
	}
	defer closeBrowser()
	var mu sync.Mutex
	done, start := 0, time.Now()
	g, ctx := errgroup.WithContext(e.ctx)
	g.SetLimit(max(1, c.Jobs))
	for i, vc := range cases {
		g.Go(func() error {
			r, err := vc.run(ctx, driver)
			if e.ctx.Err() != nil { // what was cut short says nothing of precision and recall
				return e.ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", vc.name(), err)
			}
			results[i] = r
			mu.Lock()
			defer mu.Unlock()
			done++
			if !r.OK {
				fmt.Fprintf(e.stderr, "NOT AS DECLARED  %s: %s\n", r.Name, r.Why)
			}
			if done%200 == 0 || done == len(cases) {
				fmt.Fprintf(e.stderr, "lab verify: %d of %d cases, %s\n", done, len(cases), time.Since(start).Round(time.Second))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "lab verify: %d of %d cases ran", done, len(cases))
	}
	rep := summarise(results, c.Tiers)
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", " ")
		if err := enc.Encode(rep); err != nil {
			return err
		}
	} else {
		printVerify(e.stdout, rep)
	}
	if rep.Failed > 0 {
		return exitError(exitFindings)
	}
	return nil
}

// sample takes one case of every switch, the next profile and era each time, and
// every fourth of the others.
func sample(cases []verifyCase) (out []verifyCase) {
	bySwitch, order := map[string][]verifyCase{}, []string{}
	others := 0
	for _, vc := range cases {
		if vc.group != "switch" {
			if others++; others%4 == 1 {
				out = append(out, vc)
			}
			continue
		}
		k := vc.lab.Flaws[0]
		if bySwitch[k] == nil {
			order = append(order, k)
		}
		bySwitch[k] = append(bySwitch[k], vc)
	}
	for i, k := range order {
		out = append(out, bySwitch[k][i%len(bySwitch[k])])
	}
	return out
}

// browser starts the one browser that all cases share, where a case needs it.
func (c *verifyCmd) browser(e *env) (browser.Driver, func(), error) {
	needed := len(c.Profiles) == 0 || slices.Contains(c.Profiles, "spa-consent")
	if !slices.Contains(c.Tiers, "T3") || !needed {
		return nil, func() {}, nil
	}
	b, err := browser.StartChromium(e.ctx, browser.ChromiumOptions{Lab: true})
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// verifyCase is one lab server to start and audit.
type verifyCase struct {
	group     string
	lab       lab.Options
	tiers     []kidoban.Tier
	expect    []string
	chains    []string
	undecided []string // keys that must end undecided, with one of these reasons
	reasons   []kidoban.Reason
	passive   bool    // judged from recorded traffic; chains are not compared
	habits    []habit // of the recorded client, beyond the ordinary
}

func (v verifyCase) name() string {
	flaws := "off"
	if len(v.lab.Flaws) > 0 {
		flaws = strings.Join(v.lab.Flaws, "+")
	}
	return fmt.Sprintf("%s/%s/%s/%s/%s", flaws, v.lab.Profile, v.lab.Era, issuerKind(v.lab), tokenKind(v.lab))
}

func issuerKind(o lab.Options) string {
	if o.IssuerPath {
		return "path"
	}
	return "root"
}

func tokenKind(o lab.Options) string {
	if o.JWT {
		return "jwt"
	}
	return "opaque"
}

// undecidedReasons says how an honest tester ends at each profile when the
// authorization endpoint does not show, before a login, what it does.
func undecidedReasons(profile string) []kidoban.Reason {
	switch profile {
	case "login-first":
		return []kidoban.Reason{kidoban.ReasonDeferred, kidoban.ReasonLogin}
	case "spa-consent":
		return []kidoban.Reason{kidoban.ReasonJSOnly, kidoban.ReasonDeferred, kidoban.ReasonNeedsUI, kidoban.ReasonLogin}
	case "cdn-challenge":
		return []kidoban.Reason{kidoban.ReasonChallenge, kidoban.ReasonUnstable, kidoban.ReasonLogin}
	}
	return nil
}

// shapes are the profiles and the eras that are asked for.
func (c *verifyCmd) shapes() (profiles, eras []string) {
	profiles, eras = lab.Profiles(), []string{"modern", "legacy"}
	if len(c.Profiles) > 0 {
		profiles = c.Profiles
	}
	if len(c.Eras) > 0 {
		eras = c.Eras
	}
	return profiles, eras
}

func (c *verifyCmd) matrix() ([]verifyCase, error) {
	tiers, err := parseTiers(c.Tiers, false)
	if err != nil {
		return nil, err
	}
	if !c.Passive && !wholeTiers(tiers) {
		return nil, kidoban.Errorf(kidoban.KindUsage, "--tiers %s: a tier's tests need what those below it find, and a client, which T2 registers; choose from T0,T1,T2 and T0,T1,T2,T3 and T0,T1,T2,T3,T4, or --passive for what T0 sees in recorded traffic", strings.Join(c.Tiers, ","))
	}
	profiles, eras := c.shapes()
	var cases []verifyCase
	i := 0
	for _, profile := range profiles {
		for _, era := range eras {
			if len(c.Only) == 0 {
				for _, o := range offVariants(profile, era) {
					cases = append(cases, verifyCase{group: "off", lab: o, tiers: tiers})
				}
			}
			for _, sw := range lab.Switches() {
				if len(c.Only) > 0 && !slices.Contains(c.Only, sw.Key) || !slices.Contains(tiers, sw.Tier) {
					continue
				}
				base := lab.Options{Profile: profile, Era: era, IssuerPath: i%2 == 1, JWT: i/2%2 == 1}
				i++
				o, ok := sw.Options(base)
				if !ok && era == "legacy" { // perhaps of the older transport only
					base.Era = "sse"
					o, ok = sw.Options(base)
				}
				if !ok {
					continue // the switch does not exist in this era
				}
				vc := verifyCase{group: "switch", lab: o, tiers: tiers, chains: sw.Chains, reasons: undecidedReasons(profile)}
				for _, k := range lab.Within(sw.Expect, tiers) {
					open := lab.Undecided
					if slices.Contains(tiers, kidoban.T3) {
						open = lab.UndecidedAfterLogin
					}
					if open(k, profile) {
						vc.undecided, vc.chains = append(vc.undecided, k), nil
						continue
					}
					vc.expect = append(vc.expect, k)
				}
				cases = append(cases, vc)
			}
		}
	}
	if len(c.Only) == 0 {
		cases = append(cases, falseAlarmCases(tiers)...)
		cases = append(cases, chainCases(tiers)...)
	}
	return cases, nil
}

// wholeTiers tells whether tiers are all up to a highest one, T2 or above. Without
// those below, or without a client, an honest tester decides less than its tier can.
func wholeTiers(tiers []kidoban.Tier) bool {
	all := []kidoban.Tier{kidoban.T0, kidoban.T1, kidoban.T2, kidoban.T3, kidoban.T4}
	n := 0
	for n < len(all) && slices.Contains(tiers, all[n]) {
		n++
	}
	return n > 2 && !slices.ContainsFunc(all[n:], func(t kidoban.Tier) bool { return slices.Contains(tiers, t) })
}

// offVariants are the safe servers: no switch on, all shapes.
func offVariants(profile, era string) []lab.Options {
	var out []lab.Options
	for n := range 8 {
		out = append(out, lab.Options{Profile: profile, Era: era, IssuerPath: n&1 != 0, JWT: n&2 != 0, Upstream: n&4 != 0})
	}
	return out
}

// falseAlarmCases are the situations in which the study's tool raised its 54
// false alarms: 18 + 25 checks made behind more redirects than the tool
// followed (blind trust and redirect matching), and 7 + 4 flows with unrelated
// OAuth traffic in them (missing PKCE and weak state).
func falseAlarmCases(tiers []kidoban.Tier) []verifyCase {
	var out []verifyCase
	for n := range 43 {
		out = append(out, verifyCase{group: "truncation", tiers: tiers,
			lab: lab.Options{Profile: "deep-chain", Depth: 5 + n%14, Era: eraOf(n), IssuerPath: n%3 == 0, JWT: n%2 == 0, Upstream: n >= 18}})
	}
	for n := range 11 {
		out = append(out, verifyCase{group: "noise", tiers: tiers,
			lab: lab.Options{Profile: "noise", Noise: 1 + n, Era: eraOf(n), IssuerPath: n%3 == 0, JWT: n%2 == 0, Upstream: true}})
	}
	return out
}

// chainCases turn on what only together opens a way in.
func chainCases(tiers []kidoban.Tier) []verifyCase {
	var out []verifyCase
	for _, combo := range lab.Combos() {
		reach := true
		for _, k := range combo.Flaws {
			c, _ := kidoban.CheckByKey(k)
			reach = reach && slices.Contains(tiers, c.Tier)
		}
		if !reach {
			continue
		}
		for _, era := range []string{"modern", "legacy"} {
			o := combo.Options
			o.Flaws, o.Profile, o.Era = combo.Flaws, "plain", era
			out = append(out, verifyCase{group: "chain", tiers: tiers, lab: o, expect: lab.Within(combo.Expect, tiers), chains: combo.Chains})
		}
	}
	return out
}

func eraOf(n int) string {
	if n%2 == 0 {
		return "modern"
	}
	return "legacy"
}

func (v verifyCase) run(ctx context.Context, driver browser.Driver) (verifyResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var clock *lab.Clock
	if len(v.habits) > 0 {
		v.lab.Registrations = 100
	}
	if slices.Contains(v.tiers, kidoban.T3) {
		clock = &lab.Clock{}
		v.lab.Now = clock.Now
	}
	l, err := lab.Start(ctx, v.lab)
	if err != nil {
		return verifyResult{}, err
	}
	defer l.Close()
	var rep *audit.Report
	if v.passive {
		rep, err = observeLab(ctx, l, v.lab.Era, v.habits)
	} else {
		rep, err = auditLab(ctx, l, v.tiers, driver, clock)
	}
	if err != nil {
		return verifyResult{}, err
	}
	return v.compare(rep), nil
}

// compare holds what was found against what the lab declares.
func (v verifyCase) compare(rep *audit.Report) verifyResult {
	r := verifyResult{
		Name: v.name(), Group: v.group, Flaws: v.lab.Flaws, Profile: v.lab.Profile, Era: v.lab.Era,
		Issuer: issuerKind(v.lab), Tokens: tokenKind(v.lab), Expect: sorted(v.expect), Requests: rep.Requests,
		Found: []string{}, outcomes: map[string]kidoban.Result{},
	}
	for _, res := range rep.Results {
		r.outcomes[res.Key()] = res
		if res.Outcome == kidoban.Fail || res.Outcome == kidoban.Weak {
			r.Found = append(r.Found, res.Key())
		}
	}
	for _, ch := range rep.Chains {
		r.Chains = append(r.Chains, ch.ID)
	}
	sort.Strings(r.Found)
	sort.Strings(r.Chains)
	r.Missed, r.Extra = minus(r.Expect, r.Found), minus(r.Found, r.Expect)
	why := []string{}
	for _, k := range v.undecided {
		res := r.outcomes[k]
		r.Undecided = append(r.Undecided, k+":"+string(res.Reason))
		undecided := res.Outcome == kidoban.NotTested || res.Outcome == kidoban.Inconclusive
		if !undecided || !slices.Contains(v.reasons, res.Reason) {
			why = append(why, fmt.Sprintf("%s ended %s(%s), wanted undecided for %v", k, res.Outcome, res.Reason, v.reasons))
		}
	}
	if len(r.Missed) > 0 {
		for _, k := range r.Missed {
			res := r.outcomes[k]
			why = append(why, fmt.Sprintf("missed %s: %s(%s) %s", k, res.Outcome, res.Reason, res.Summary))
		}
	}
	for _, k := range r.Extra {
		why = append(why, fmt.Sprintf("extra %s: %s", k, r.outcomes[k].Summary))
	}
	if v.passive {
		r.Chains = nil // a chain wants the active proofs beside the passive ones
	}
	if m, x := minus(sorted(v.chains), r.Chains), minus(r.Chains, sorted(v.chains)); len(m)+len(x) > 0 {
		why = append(why, fmt.Sprintf("chains: missed %v, extra %v", m, x))
	}
	left := slices.DeleteFunc(slices.Clone(rep.Residue.LeftBehind), func(x kidoban.LeftOver) bool {
		return x.Kind == "grant" && slices.Contains(v.lab.Flaws, "E25-a")
	})
	if len(left) > 0 && !slices.ContainsFunc(v.lab.Flaws, leavesBehind) {
		why = append(why, fmt.Sprintf("left behind %+v", left))
	}
	r.Why, r.OK = strings.Join(why, "; "), len(why) == 0
	return r
}

// leavesBehind are the switches that take away the means to clean up.
func leavesBehind(key string) bool { return strings.HasPrefix(key, "E20-") }

func summarise(results []verifyResult, tiers []string) verifyReport {
	rep := verifyReport{Schema: "kidoban.verify/1", Tiers: tiers, Cases: len(results), Results: results}
	var tp, fp, fn float64
	for _, r := range results {
		tp += float64(len(r.Expect) - len(r.Missed))
		fn += float64(len(r.Missed))
		fp += float64(len(r.Extra))
		if !r.OK {
			rep.Failed++
		}
	}
	rep.Precision, rep.Recall = ratio(tp, tp+fp), ratio(tp, tp+fn)
	return rep
}

// ratio is 1 for an empty denominator: nothing claimed, nothing wrong.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 1
	}
	return a / b
}

func printVerify(w io.Writer, rep verifyReport) {
	groups := map[string][2]int{}
	var order []string
	for _, r := range rep.Results {
		g, seen := groups[r.Group]
		if !seen {
			order = append(order, r.Group)
		}
		g[0]++
		if r.OK {
			g[1]++
		}
		groups[r.Group] = g
	}
	for _, g := range order {
		fmt.Fprintf(w, "%-11s %4d of %4d cases as declared\n", g, groups[g][1], groups[g][0])
	}
	fmt.Fprintf(w, "precision %.4f   recall %.4f   over %d cases, tiers %s\n", rep.Precision, rep.Recall, rep.Cases, strings.Join(rep.Tiers, ","))
}

// auditLab audits a lab as the tester would audit a server of its own: every
// tier of the case, with a canary on loopback and a budget that no probe misses.
//
// From T3 on it logs in as the lab's people. driver opens real browsers for the
// pages that need one; the clock is clock's, so that waiting takes no time.
func auditLab(ctx context.Context, l *lab.Lab, tiers []kidoban.Tier, driver browser.Driver, clock *lab.Clock) (*audit.Report, error) {
	dir, err := os.MkdirTemp("", "kidoban-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	o := audit.Options{Tiers: tiers, Lab: true, OwnServer: true, Authorized: "kidoban lab verify", StateDir: dir, MaxRequests: verifyRequests}
	if clock != nil {
		o.Now, o.Wait, o.Patience = clock.Now, clock.Wait, time.Hour
	}
	if len(l.CACert) > 0 {
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AppendCertsFromPEM(l.CACert)
	}
	if slices.Contains(tiers, kidoban.T3) {
		logins(l, &o, tiers, driver)
	}
	if o.Canary, err = audit.ListenCanary(ctx, "127.0.0.1:0", ""); err != nil {
		return nil, err
	}
	defer o.Canary.Close()
	return audit.Run(ctx, o, l.MCPURL)
}

// logins gives the audit the lab's accounts, its second server and its tools.
func logins(l *lab.Lab, o *audit.Options, tiers []kidoban.Tier, driver browser.Driver) {
	person := func(i int) *audit.Tester {
		a := l.Accounts[i]
		return &audit.Tester{Account: browser.Account{User: a.User, Password: a.Password, TOTP: a.TOTP}, Browser: driver, Fast: true}
	}
	o.Login = person(0)
	if slices.Contains(tiers, kidoban.T4) {
		o.Second, o.SecondURL = person(1), l.SecondURL
	}
	o.Tools = []string{"whoami", "list_notes", "read_note", "start_report", "get_report", "add_note", "needs_input", "connect_account"}
}

// verifyRequests is the budget of one case: enough that no probe goes without.
const verifyRequests = 2000

func sorted(in []string) []string {
	out := slices.Clone(in)
	if out == nil {
		out = []string{}
	}
	sort.Strings(out)
	return out
}

func minus(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
