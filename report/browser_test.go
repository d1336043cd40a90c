package report

import (
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium for one test.
func browser(t *testing.T) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium does not start; install it: %v", err)
	}
	return ctx
}

// watched is what a page tried to do while it was open.
type watched struct {
	mu       sync.Mutex
	requests []string
	console  []string
}

func (w *watched) listen(t *testing.T, ctx context.Context) {
	t.Helper()
	err := chromedp.Listen(ctx, func(ev any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := ev.(type) {
		case *network.EventRequestWillBeSent:
			w.requests = append(w.requests, e.Request.URL)
		case *runtime.EventConsoleAPICalled:
			w.console = append(w.console, "console "+string(e.Type))
		case *runtime.EventExceptionThrown:
			w.console = append(w.console, "exception "+e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			w.console = append(w.console, string(e.Entry.Level)+" "+e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
}

// count evaluates an expression that gives a number.
func count(t *testing.T, ctx context.Context, expression string) int {
	t.Helper()
	n, err := chromedp.Run(ctx, chromedp.Evaluate[int](expression))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestHTMLOpensWithoutScriptAndNetwork opens the sample and the hostile report
// in a real browser and records everything they try.
func TestHTMLOpensWithoutScriptAndNetwork(t *testing.T) {
	ctx := browser(t)
	w := &watched{}
	w.listen(t, ctx)
	for name, in := range map[string]Input{"sample": sample(), "hostile": hostile(), "empty": {}} {
		out := write(t, func(w io.Writer) error { return HTML(w, in) })
		if s := strings.ToLower(string(out)); strings.Contains(s, "<script") || strings.Contains(s, " onerror=\"") {
			t.Errorf("%s: the file holds a script", name)
		}
		path := filepath.Join(t.TempDir(), name+".html")
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		file := (&url.URL{Scheme: "file", Path: path}).String()
		w.mu.Lock()
		w.requests, w.console = nil, nil
		w.mu.Unlock()
		step, end := context.WithTimeout(ctx, 3*time.Minute)
		if err := chromedp.Do(step, chromedp.EmulateViewport(390, 844), chromedp.Navigate(file), chromedp.WaitReady("footer")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		active := count(t, step, `document.querySelectorAll('script,iframe,object,embed,form,base,link[rel=stylesheet],img,audio,video').length`)
		handlers := count(t, step, `[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length`)
		external := count(t, step, `[...document.querySelectorAll('[href],[src]')].filter(e => { const v = e.getAttribute('href') || e.getAttribute('src'); return !v.startsWith('#') && v !== 'data:,' }).length`)
		title := count(t, step, `document.title.length`)
		wide := count(t, step, `Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)`)
		end()
		w.mu.Lock()
		for _, r := range w.requests {
			if r != file && r != "data:," {
				t.Errorf("%s: the page asked for %.120s", name, r)
			}
		}
		for _, c := range w.console {
			t.Errorf("%s: the page said %.200s", name, c)
		}
		w.mu.Unlock()
		if active+handlers+external != 0 {
			t.Errorf("%s: %d active elements, %d handlers, %d addresses outside the file", name, active, handlers, external)
		}
		if title == 0 || title > 400 {
			t.Errorf("%s: a title of %d characters", name, title)
		}
		if wide > 0 {
			t.Errorf("%s: the page is %d pixels wider than a phone", name, wide)
		}
	}
}

// TestLinksOfTheHTMLLead checks that every link inside the file has its target.
func TestLinksOfTheHTMLLead(t *testing.T) {
	out := string(write(t, func(w io.Writer) error { return HTML(w, sample()) }))
	for _, part := range strings.Split(out, `href="#`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		if !strings.Contains(out, `id="`+id+`"`) {
			t.Errorf("a link leads to #%s, which does not exist", id)
		}
	}
}
