package authtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Step is one action in a real browser.
type Step = chromedp.Action[chromedp.Void]

// Chromium starts a real browser with a profile of its own and returns its first
// tab. chromedp makes and removes the profile: a test's own directory is removed while
// the browser's children may still write to it, and that fails the test. With script
// false JavaScript is off.
func Chromium(t testing.TB, lang string, width, height int, script bool) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.Flag("accept-lang", lang), chromedp.WindowSize(width, height), chromedp.WSURLReadTimeout(3*time.Minute))
	if os.Geteuid() == 0 { // Chromium's sandbox refuses to run for root
		opts = append(opts, chromedp.NoSandbox)
	}
	alloc, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	return Tab(t, alloc, script)
}

// Tab opens a tab beside the one of parent. The browser lives as long as its first
// tab.
func Tab(t testing.TB, parent context.Context, script bool) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, Script(script)); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// Script switches JavaScript on or off in a tab.
func Script(on bool) Step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return chromedp.Void{}, err
	}
}

// Run takes steps; when one cannot be taken the test fails with the page it was on.
func Run(t testing.TB, ctx context.Context, steps ...Step) {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := chromedp.Do(limited, steps...); err != nil {
		look, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		where, _ := chromedp.Run(look, chromedp.Location())
		text, _ := chromedp.Run(look, chromedp.OuterHTML("html"))
		t.Fatalf("%v at %s\n%.4000s", err, where, text)
	}
}

// Read returns what a step reads.
func Read(t testing.TB, ctx context.Context, a chromedp.Action[string]) string {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	s, err := chromedp.Run(limited, a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Shoot keeps a picture of the page in $KIDOBAN_SCREENSHOTS, for somebody who wants
// to look at it.
func Shoot(t testing.TB, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("KIDOBAN_SCREENSHOTS")
	if dir == "" || name == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
