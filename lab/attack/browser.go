package attack

import (
	"context"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/lab"
)

// person is somebody in a Chromium of their own.
type person struct {
	account lab.Account  // at the server
	third   *lab.Account // at the third party behind it; nil: there is none
	thirdAt string       // host:port of the third party
	refuses []string     // hosts that make this person stop when a page names them
	tab     context.Context
	close   func()
	seen    []string // what kind of page came when: login, consent, connect, third party

	mu    sync.Mutex
	leads []string // addresses that the browser was sent to, redirects too; guarded by mu
}

// follow begins to note where the browser is sent.
func (p *person) follow() error {
	err := chromedp.Listen(p.tab, func(ev any) {
		if e, ok := ev.(*network.EventRequestWillBeSent); ok && e.Type == network.ResourceTypeDocument {
			p.mu.Lock()
			p.leads = append(p.leads, e.Request.URL)
			p.mu.Unlock()
		}
	})
	if err == nil {
		_, err = chromedp.Call(p.tab, network.Enable, network.EnableParams{})
	}
	return kidoban.Wrap(kidoban.KindUnreachable, err, "the browser does not tell where it is sent")
}

// ledTo is the first address with the prefix that the browser was sent to, or "".
func (p *person) ledTo(prefix string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.leads {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}

// stepTime bounds one step in a browser.
const stepTime = 30 * time.Second

// openBrowser starts a fresh Chromium in which the hosts below attacker's names
// lead to his site.
func openBrowser(ctx context.Context, t Target, attacker *site) (tab context.Context, done func(), err error) {
	_, port, err := net.SplitHostPort(attacker.addr)
	if err != nil {
		return nil, nil, kidoban.Wrap(kidoban.KindInternal, err, "the attack's web site has no port")
	}
	rules := "MAP *.example 127.0.0.1:" + port + ", EXCLUDE 127.0.0.1, EXCLUDE localhost, MAP * ~NOTFOUND"
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("host-resolver-rules", rules),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("accept-lang", t.lang()), chromedp.WindowSize(900, 1200))
	if t.Chromium != "" {
		opts = append(opts, chromedp.ExecPath(t.Chromium))
	}
	if os.Geteuid() == 0 { // Chromium's sandbox refuses to run for root
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, stop := chromedp.NewExecAllocator(ctx, opts...)
	tab, cancel := chromedp.NewContext(alloc)
	done = func() { cancel(); stop() }
	if err := chromedp.Do(tab); err != nil {
		done()
		return nil, nil, kidoban.Wrap(kidoban.KindUnreachable, err, "Chromium does not start: install it, or name it with --browser")
	}
	return tab, done, nil
}

// page is what stands in front of a person.
type page struct {
	URL      string `json:"url"`
	Title    string `json:"title"`
	Text     string `json:"text"`
	Ready    bool   `json:"ready"`
	Password bool   `json:"password"`
	Approve  bool   `json:"approve"`
	Connect  bool   `json:"connect"`
	Agree    bool   `json:"agree"`
}

const readPage = `({url: location.href, title: document.title, text: document.body ? document.body.innerText : "", ready: document.readyState === "complete",
	password: !!document.querySelector("input[type=password]"), approve: !!document.querySelector("button[value=approve]"),
	connect: !!document.querySelector("button[name=account]"), agree: !!document.querySelector("#agree")})`

func (p *person) look(ctx context.Context) (page, error) {
	for {
		at, err := chromedp.Run(ctx, chromedp.Evaluate[page](readPage))
		if err == nil && at.Ready {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return at, kidoban.Wrap(kidoban.KindUnreachable, ctx.Err(), "the browser shows no page")
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// open goes to a link and on, as the person would, until there is nothing left to
// do or halt says so. It returns the page where that was.
func (p *person) open(link string, halt func(page) bool) (page, error) {
	ctx, cancel := context.WithTimeout(p.tab, 4*stepTime)
	defer cancel()
	// A callback that nobody answers is an error to the browser and an end to us.
	if err := chromedp.Do(ctx, chromedp.Navigate(link)); err != nil && ctx.Err() != nil {
		return page{}, kidoban.Wrap(kidoban.KindUnreachable, err, "the browser cannot open the link")
	}
	for range 20 {
		at, err := p.look(ctx)
		if err != nil || halt != nil && halt(at) {
			return at, err
		}
		was := at.URL
		script := p.act(at)
		if script == "" {
			return at, nil
		}
		// The page may leave while the script is still answering.
		_, _ = chromedp.Run(ctx, chromedp.Evaluate[bool]("(() => {"+script+"; return true})()"))
		p.settle(ctx, was)
	}
	return page{}, kidoban.Errorf(kidoban.KindInternal, "the pages lead round in circles")
}

// settle waits until a click has led somewhere, or has not for a while.
func (p *person) settle(ctx context.Context, was string) {
	for range 60 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(30 * time.Millisecond):
		}
		if at, err := chromedp.Run(ctx, chromedp.Location()); err == nil && at != was {
			return
		}
	}
}

// act is what the person does with a page, as a script; "" is nothing.
func (p *person) act(at page) string {
	u, err := url.Parse(at.URL)
	if err != nil {
		return ""
	}
	who := p.account
	if p.third != nil && u.Host == p.thirdAt {
		who = *p.third
		p.note("third party")
	}
	switch {
	case at.Password:
		p.note("login")
		return `document.querySelector("input[name=name],input[name=username]").value = ` + quote(who.User) + `;
			document.querySelector("input[type=password]").value = ` + quote(who.Password) + `;
			const f = document.querySelector("input[type=password]").form; f.requestSubmit ? f.requestSubmit() : f.submit()`
	case at.Approve:
		p.note("consent")
		if p.wary(at) {
			return ""
		}
		return `document.querySelector("button[value=approve]").click()`
	case at.Connect:
		p.note("connect")
		return `document.querySelector("button[name=account]").click()`
	case at.Agree:
		return `document.querySelector("#agree").click()`
	}
	return ""
}

// wary tells that the page names a host that has no place in the person's story.
func (p *person) wary(at page) bool {
	text := strings.ToLower(at.Text)
	for _, h := range p.refuses {
		if strings.Contains(text, h) {
			return true
		}
	}
	return false
}

func (p *person) note(what string) { p.seen = append(p.seen, what) }

// quote writes a string as a script's literal; names and passwords here are plain.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "<", `\x3c`).Replace(s) + "'"
}

// shoot photographs the page into dir; "" takes none.
func (p *person) shoot(dir, name string) (string, error) {
	if dir == "" {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(p.tab, stepTime)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return "", kidoban.Wrap(kidoban.KindUnreachable, err, "no screenshot could be taken")
	}
	file := dir + string(os.PathSeparator) + name + ".png"
	if err := os.WriteFile(file, png, 0o644); err != nil {
		return "", kidoban.Wrap(kidoban.KindUsage, err, "the screenshot cannot be written")
	}
	return file, nil
}
