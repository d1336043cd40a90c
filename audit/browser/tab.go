package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban"
)

// tab is one page of a Chromium with a profile of its own. Every request passes
// through paused: documents of the main frame are noted and perhaps captured;
// whatever else a page loads must come from an origin of the walk.
type tab struct {
	c      *Chromium
	ctx    context.Context
	cancel context.CancelFunc
	policy Policy
	main   cdp.FrameID
	events chan *fetch.EventRequestPaused
	wg     sync.WaitGroup
	keys   webauthn.AuthenticatorID // its virtual authenticator, "" before one is needed

	mu       sync.Mutex
	captured string
	pending  bool // a document of the main frame is on its way
	wanted   bool // the page has asked for another one, of which no request was seen yet
	changed  time.Time
	docs     int // documents of the main frame so far
	origins  map[string]bool
	doc      *kidoban.Exchange // the last whole document
	docID    int
	asked    *kidoban.Exchange // the request that waits for its answer
}

// Open opens a tab with an empty profile, or with the profile that was named.
func (c *Chromium) Open(ctx context.Context, p Policy) (Tab, error) {
	var opts []chromedp.ContextOption
	if c.o.ProfileDir == "" {
		opts = append(opts, chromedp.WithNewBrowserContext())
	}
	tctx, cancel := chromedp.NewContext(c.root, opts...)
	t := &tab{c: c, ctx: tctx, cancel: cancel, policy: p, origins: map[string]bool{}, events: make(chan *fetch.EventRequestPaused, 256), changed: time.Now()}
	fail := func(err error) (Tab, error) {
		cancel()
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the browser opens no page")
	}
	if err := chromedp.Do(tctx); err != nil {
		return fail(err)
	}
	t.main = cdp.FrameID(chromedp.FromContext(tctx).Target.TargetID)
	if err := chromedp.Listen(tctx, t.listen); err != nil {
		return fail(err)
	}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		for {
			select {
			case <-tctx.Done():
				return
			case ev := <-t.events:
				t.paused(ev)
			}
		}
	}()
	patterns := []*fetch.RequestPattern{{URLPattern: "*", RequestStage: fetch.RequestStageRequest}, {URLPattern: "*", ResourceType: network.ResourceTypeDocument, RequestStage: fetch.RequestStageResponse}}
	if _, err := chromedp.Call(tctx, fetch.Enable, fetch.EnableParams{Patterns: patterns}); err != nil {
		return fail(err)
	}
	if _, err := chromedp.Call(tctx, page.Enable, page.EnableParams{}); err != nil {
		return fail(err)
	}
	return t, nil
}

// listen runs in the loop that reads the tab's messages: it must not wait.
func (t *tab) listen(ev any) {
	switch e := ev.(type) {
	case *fetch.EventRequestPaused:
		select {
		case t.events <- e:
		default: // more than 256 at once: the rest of the page is not for us
		}
	case *page.EventFrameRequestedNavigation:
		if e.FrameID == t.main && e.Disposition == page.ClientNavigationDispositionCurrentTab {
			t.mu.Lock()
			t.wanted, t.changed = true, time.Now()
			t.mu.Unlock()
		}
	case *page.EventFrameNavigated:
		if e.Frame.ParentID == "" {
			t.mu.Lock()
			t.pending, t.wanted, t.changed = false, false, time.Now()
			t.docs++
			t.mu.Unlock()
		}
	case *page.EventJavascriptDialogOpening:
		t.wg.Add(1)
		go func() { // not from within the loop
			defer t.wg.Done()
			_, _ = chromedp.Call(t.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

// paused decides about one request or answer.
func (t *tab) paused(e *fetch.EventRequestPaused) {
	main := e.ResourceType == network.ResourceTypeDocument && e.FrameID == t.main
	if e.ResponseStatusCode > 0 || e.ResponseErrorReason != "" {
		if main {
			t.answered(e)
		}
		_, _ = chromedp.Call(t.ctx, fetch.ContinueResponse, fetch.ContinueResponseParams{RequestID: e.RequestID})
		return
	}
	to := e.Request.URL + e.Request.URLFragment
	if main && t.policy.Capture != nil && t.policy.Capture(withPost(to, e.Request)) {
		t.mu.Lock()
		t.captured, t.pending, t.wanted, t.changed = withPost(to, e.Request), false, false, time.Now()
		t.mu.Unlock()
		t.refuse(e)
		return
	}
	t.mu.Lock()
	if main {
		t.pending, t.wanted, t.changed = true, false, time.Now()
		t.asked = &kidoban.Exchange{Started: time.Now(), Request: kidoban.Request{Method: e.Request.Method, URL: e.Request.URL, Header: fieldsOf(e.Request.Headers), Body: postData(e.Request)}}
	}
	allowed := main || t.origins[origin(to)] || strings.HasPrefix(to, "data:") || strings.HasPrefix(to, "blob:")
	t.mu.Unlock()
	if !allowed {
		t.refuse(e)
		return
	}
	_, _ = chromedp.Call(t.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
}

func (t *tab) refuse(e *fetch.EventRequestPaused) {
	_, _ = chromedp.Call(t.ctx, fetch.FailRequest, fetch.FailRequestParams{RequestID: e.RequestID, ErrorReason: network.ErrorReasonAborted})
}

// withPost shows a form that is posted to a callback as if it were a query.
func withPost(to string, r *network.Request) string {
	if r.Method != "POST" || !strings.Contains(string(postData(r)), "=") {
		return to
	}
	sep := "?"
	if strings.Contains(to, "?") {
		sep = "&"
	}
	return to + sep + string(postData(r))
}

func postData(r *network.Request) []byte {
	var b []byte
	for _, e := range r.PostDataEntries {
		b = append(b, e.Bytes...)
	}
	return b[:min(len(b), 64<<10)]
}

func fieldsOf(h network.Headers) kidoban.Fields {
	var out kidoban.Fields
	for k, v := range h {
		out = append(out, kidoban.Field{Name: k, Value: fmt.Sprint(v)})
	}
	return out
}

// answered notes the answer to a document of the main frame.
func (t *tab) answered(e *fetch.EventRequestPaused) {
	t.mu.Lock()
	x := t.asked
	t.asked = nil
	t.mu.Unlock()
	if x == nil {
		x = &kidoban.Exchange{Started: time.Now(), Request: kidoban.Request{Method: e.Request.Method, URL: e.Request.URL}}
	}
	x.Duration = time.Since(x.Started)
	if e.ResponseErrorReason != "" {
		x.Err, x.ErrKind = string(e.ResponseErrorReason), kidoban.KindUnreachable
	} else {
		x.Response = &kidoban.Response{Status: int(e.ResponseStatusCode), Proto: "HTTP/1.1"}
		for _, h := range e.ResponseHeaders {
			x.Response.Header = append(x.Response.Header, kidoban.Field{Name: h.Name, Value: h.Value})
		}
		if st := x.Response.Status; st < 300 || st >= 400 {
			if b, err := chromedp.Call(t.ctx, fetch.GetResponseBody, fetch.GetResponseBodyParams{RequestID: e.RequestID}); err == nil {
				x.Response.Body = b.Body[:min(len(b.Body), MaxHTML)]
			}
		}
	}
	id := 0
	if t.policy.Seen != nil {
		id = t.policy.Seen(x)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = time.Now()
	if x.Response != nil && (x.Response.Status < 300 || x.Response.Status >= 400) {
		t.doc, t.docID = x, id
		t.origins[origin(x.Request.URL)] = true // what only redirects shows no page, and loads none
		t.pending = t.pending && x.Response.Status != 204
	}
}

// Close closes the tab and forgets its profile.
func (t *tab) Close() {
	t.cancel()
	t.wg.Wait()
}

// Again lets a tab whose walk has ended go on another one, with the same cookies.
func (t *tab) Again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.captured, t.pending, t.wanted = "", false, false
}

func (t *tab) Captured() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.captured
}

// step bounds one step by the caller's context and the browser's own patience.
func (t *tab) step(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(t.ctx, t.c.o.Timeout)
	stop := context.AfterFunc(ctx, cancel)
	return out, func() { stop(); cancel() }
}

func (t *tab) Goto(ctx context.Context, to string) error {
	if t.policy.Capture != nil && t.policy.Capture(to) {
		t.mu.Lock()
		t.captured = to
		t.mu.Unlock()
		return nil
	}
	sctx, cancel := t.step(ctx)
	defer cancel()
	t.mu.Lock()
	t.changed = time.Now()
	t.mu.Unlock()
	res, err := chromedp.Call(sctx, page.Navigate, page.NavigateParams{URL: to})
	if err == nil && res.ErrorText != "" && t.Captured() == "" {
		err = kidoban.Errorf(kidoban.KindUnreachable, "%s", res.ErrorText)
	}
	if err != nil && t.Captured() == "" {
		return kidoban.Wrap(kidoban.KindUnreachable, err, "the browser cannot open %s", place(to))
	}
	return t.rest(sctx)
}

// Times of waiting for a page: how long nothing may move, how long a click may take
// to move something, and how long a page that was asked for may stay without a
// request (it was called off, or became a download).
const (
	stillFor  = 60 * time.Millisecond
	clickTime = 150 * time.Millisecond
	wantedFor = 5 * time.Second
	pollEvery = 20 * time.Millisecond
)

// rest waits until no document is on its way and the one that is there is whole.
func (t *tab) rest(ctx context.Context) error {
	for {
		t.mu.Lock()
		still := time.Since(t.changed)
		done, quiet := t.captured != "", !t.pending && still >= stillFor && (!t.wanted || still >= wantedFor)
		t.mu.Unlock()
		if done {
			return nil
		}
		if quiet {
			state, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.readyState"))
			if err == nil && state == "complete" {
				return nil
			}
		}
		timer := time.NewTimer(pollEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return kidoban.Errorf(kidoban.KindUnreachable, "the page did not finish loading in %s", t.c.o.Timeout)
		}
	}
}

func (t *tab) Page(ctx context.Context) (*Page, error) {
	sctx, cancel := t.step(ctx)
	defer cancel()
	raw, err := chromedp.Run(sctx, chromedp.Evaluate[string](readScript))
	if err != nil {
		return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "the browser cannot read the page")
	}
	var got struct {
		URL, Title, Text, HTML string
		Elements               []Element
	}
	if err := json.Unmarshal([]byte(raw), &got); err != nil {
		return nil, kidoban.Wrap(kidoban.KindInternal, err, "the browser's page cannot be read")
	}
	p := &Page{URL: got.URL, Title: got.Title, Text: fold(got.Text), HTML: []byte(got.HTML), Elements: got.Elements}
	p.Text = p.Text[:min(len(p.Text), MaxText)]
	t.mu.Lock()
	if t.doc != nil {
		p.Status, p.Header, p.XID = t.doc.Status(), t.doc.Response.Header, t.docID
	}
	p.Doc = t.docs
	t.mu.Unlock()
	if t.policy.Pictures {
		if res, err := chromedp.Call(sctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng}); err == nil && len(res.Data) <= MaxPNG {
			p.PNG = res.Data
		}
	}
	return p, nil
}

func (t *tab) Fill(ctx context.Context, index int, value string) error {
	return t.run(ctx, "fillIn", index, value)
}

func (t *tab) Set(ctx context.Context, form int, name, value string) error {
	return t.run(ctx, "setMember", form, name, value)
}

// run calls one of the page functions; arguments travel as JSON, never as code.
func (t *tab) run(ctx context.Context, fn string, args ...any) error {
	sctx, cancel := t.step(ctx)
	defer cancel()
	arg, err := json.Marshal(args)
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the browser's step cannot be written")
	}
	// A string literal of JSON, with the two characters that end a line of script
	// escaped by Marshal.
	lit, err := json.Marshal(string(arg))
	if err != nil {
		return kidoban.Wrap(kidoban.KindInternal, err, "the browser's step cannot be written")
	}
	why, err := chromedp.Run(sctx, chromedp.Evaluate[string]("("+actScript+")("+quote(fn)+","+string(lit)+")"))
	if err != nil {
		if t.Captured() != "" {
			return nil
		}
		t.mu.Lock()
		moving := t.pending || t.wanted
		t.mu.Unlock()
		if moving && fn == "press" {
			return nil // the page left while the click was still being answered
		}
		return kidoban.Errorf(kidoban.KindUnreachable, "the page %s cannot be filled in: the browser did not answer", place(t.url()))
	}
	if why != "" {
		return kidoban.Errorf(kidoban.KindInput, "%s on %s", why, place(t.url()))
	}
	return nil
}

func (t *tab) url() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doc == nil {
		return ""
	}
	return t.doc.Request.URL
}

func (t *tab) Click(ctx context.Context, index int) error {
	t.mu.Lock()
	t.changed = time.Now().Add(clickTime - stillFor)
	t.mu.Unlock()
	if err := t.run(ctx, "press", index); err != nil {
		return err
	}
	sctx, cancel := t.step(ctx)
	defer cancel()
	// The click is a task of the page. When this later task has run, a form that was
	// sent or a link has told of it, however slow the machine is. A page that leaves
	// meanwhile answers with an error, which rest sees for itself.
	_, _ = chromedp.Run(sctx, chromedp.Evaluate[bool](laterScript, chromedp.EvalAwaitPromise))
	return t.rest(sctx)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
