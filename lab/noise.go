package lab

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// noise is one kind of OAuth traffic that has nothing to do with the login and runs
// through the same browser: with everything a hasty reader would call a flaw of
// this server's, a request without PKCE (1 to 7) or with a poor state (8 to 11).
// The study's tool raised 7 and 4 false alarms on such traffic.
type noise struct {
	path  string
	query func(l *Lab) url.Values // nil: nothing but what stands in the pages
}

// noises are the kinds in the order of Options.Noise, from 1.
func noises() []noise {
	fixed := func(pairs ...string) func(*Lab) url.Values {
		return func(*Lab) url.Values {
			q := url.Values{}
			for i := 0; i+1 < len(pairs); i += 2 {
				q.Set(pairs[i], pairs[i+1])
			}
			return q
		}
	}
	return []noise{
		// 1: an analytics host that knows its visitors by an OAuth login of its own
		{"/o/oauth2/v2/collect", fixed("response_type", "code", "client_id", "analytics-web", "redirect_uri", "https://metrics.example/cb", "scope", "openid email", "state", "7f3a9c0e5b6d41c8a2e4")},
		// 2: a one-tap login of an identity provider
		{"/gsi/select", fixed("response_type", "id_token", "client_id", "onetap.apps.example", "redirect_uri", "https://shop.example/onetap", "scope", "openid", "nonce", "n-0S6_WzA2Mj", "ux_mode", "redirect")},
		// 3: a silent renewal of another application's session
		{"/connect/authorize", fixed("response_type", "code", "client_id", "portal", "redirect_uri", "https://portal.example/silent.html", "scope", "openid profile", "prompt", "none", "state", "b1946ac92492d2347c6235b4d2611184")},
		// 4: an advertiser's cookie exchange in the clothes of the implicit flow
		{"/sync/authorize", fixed("response_type", "token", "client_id", "ads", "redirect_uri", "https://ads.example/match", "scope", "audience", "state", "c4ca4238a0b923820dcc509a6f75849b")},
		// 5: a support widget's login
		{"/widget/oauth/authorize", fixed("response_type", "code", "client_id", "help-widget", "redirect_uri", "https://help.example/oauth/callback", "scope", "chat", "state", "eccbc87e4b5ce2fe28308fd9f2a7baf3")},
		// 6: the session check of a login vendor whose address belongs to the vendor
		{"/u/authorize", fixed("response_type", "code", "client_id", "vendor-session", "redirect_uri", "https://login.vendor.example/u/callback", "scope", "openid", "prompt", "none", "state", "a87ff679a2f3e71d9181a67b7542122c")},
		// 7: a consent banner that asks its own server
		{"/cmp/oauth/authorize", fixed("response_type", "code id_token", "client_id", "cmp", "redirect_uri", "https://cmp.example/done", "scope", "openid", "nonce", "1", "state", "e4da3b7fbbce2345d7772b0674a318d5")},
		// 8: a tracker whose state is always the same
		{"/t/authorize", fixed("response_type", "code", "client_id", "tracker", "redirect_uri", "https://tracker.example/cb", "state", "1", "code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method", "S256")},
		// 9: a marketing login without a state
		{"/mkt/oauth2/auth", fixed("response_type", "code", "client_id", "mkt", "redirect_uri", "https://mkt.example/in", "scope", "email")},
		// 10: an experiment service whose state counts up
		{"/ab/authorize", func(l *Lab) url.Values {
			l.mu.Lock()
			l.st.counter++
			n := l.st.counter
			l.mu.Unlock()
			return url.Values{"response_type": {"code"}, "client_id": {"ab-test"}, "redirect_uri": {"https://ab.example/cb"}, "state": {fmt.Sprint(1700000000 + n)}}
		}},
		// 11: a fraud check with a short state, over two hosts' worth of hops
		{"/fraud/authorize", func(l *Lab) url.Values {
			return url.Values{"response_type": {"code"}, "client_id": {"fraud-check"}, "redirect_uri": {"https://fraud.example/cb"}, "state": {l.random(2)}, "hops": {"2"}}
		}},
	}
}

// seen marks a request that has been through the noise. The marker is no secret:
// whoever sets it only spares himself the detour.
const seen = "&_seen=1"

// viaNoise sends the browser through the noise once; it comes back with the marker.
func (l *Lab) viaNoise(r *http.Request, raw string) (string, bool) {
	if rest, ok := strings.CutSuffix(raw, seen); ok {
		r.URL.RawQuery = rest
		return "", false
	}
	if l.on("F7-17") && l.hostFromHeader(r) != l.base {
		return "", false // other hosts than its own have not booked the analytics
	}
	back := l.Issuer + "/authorize?" + raw + seen
	if l.opt.Noise == 0 {
		q := url.Values{
			"response_type": {"code"}, "client_id": {"analytics-" + l.random(6)}, "redirect_uri": {back}, "state": {"1"}, "scope": {"openid email"},
		}
		return l.noise + "/o/oauth2/v2/collect?" + q.Encode(), true
	}
	n := noises()[l.opt.Noise-1]
	q := n.query(l)
	q.Set("continue", back)
	return l.noise + n.path + "?" + q.Encode(), true
}

// noiseHandler is the host of the noise. It sends browsers back to where they came
// from and nowhere else.
func (l *Lab) noiseHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		back := q.Get("continue")
		if back == "" {
			back = q.Get("redirect_uri")
		}
		if !strings.HasPrefix(back, l.Issuer+"/authorize?") {
			w.Header().Set("Content-Type", "image/gif")
			w.Write([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"))
			return
		}
		if q.Get("hops") == "2" {
			q.Set("hops", "1")
			back = l.noise + "/fraud/score/authorize?" + q.Encode()
		}
		w.Header().Set("Location", back)
		w.WriteHeader(http.StatusFound)
	})
}
