package browser

import (
	"context"
	"crypto/x509"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/outbound"
)

// ChromiumOptions choose the browser.
type ChromiumOptions struct {
	Path       string // of the program; "" looks for it
	ProfileDir string // an existing profile, used as it is; "" makes fresh ones
	Visible    bool   // with a window, for recording a login
	Lab        bool   // loopback may be reached; certificates of the lab's authority are taken
	RootCAs    *x509.CertPool
	Resolve    func(ctx context.Context, host string) ([]netip.Addr, error)
	Timeout    time.Duration // of one step; 0 is 20 s
}

// Chromium is one browser process. Its tabs have profiles of their own. Safe for
// concurrent use; Close ends the process and removes what it wrote.
type Chromium struct {
	o       ChromiumOptions
	root    context.Context // the browser lives as long as this
	cancels []func()
	proxy   *proxy

	mu     sync.Mutex
	closed bool
}

// find returns the path of a Chromium.
func find(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	for _, p := range []string{"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", kidoban.Errorf(kidoban.KindUsage, "no Chromium was found: install chromium, or name the program with --browser")
}

// StartChromium starts a browser. It ends with Close or with ctx.
func StartChromium(ctx context.Context, o ChromiumOptions) (*Chromium, error) {
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Second
	}
	path, err := find(o.Path)
	if err != nil {
		return nil, err
	}
	if o.Visible && runtime.GOOS == "linux" && os.Getenv("DISPLAY")+os.Getenv("WAYLAND_DISPLAY") == "" {
		return nil, kidoban.Errorf(kidoban.KindUsage, "there is no display here for a window: do this on your own desktop; --login-as and --login-script need none")
	}
	c := &Chromium{o: o}
	if c.proxy, err = newProxy(outbound.RelayOptions{Lab: o.Lab, RootCAs: o.RootCAs, Resolve: o.Resolve}); err != nil {
		return nil, err
	}
	c.cancels = append(c.cancels, c.proxy.Close)
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("disable-gpu", true), chromedp.Flag("mute-audio", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("no-pings", true), chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("proxy-server", "http://"+c.proxy.addr), chromedp.Flag("proxy-bypass-list", "<-loopback>"),
		chromedp.Flag("window-size", "900,1100"), chromedp.Flag("lang", "en-US"),
	)
	if o.ProfileDir != "" { // else chromedp makes one, and removes it when the last of the browser's processes is gone
		opts = append(opts, chromedp.UserDataDir(o.ProfileDir))
	}
	if os.Geteuid() == 0 { // Chromium's sandbox refuses to run for root
		opts = append(opts, chromedp.Flag("no-sandbox", true))
	}
	if o.Visible {
		opts = append(opts, chromedp.Flag("headless", false))
	}
	if o.Lab {
		opts = append(opts, chromedp.Flag("ignore-certificate-errors", true))
	}
	alloc, stop := chromedp.NewExecAllocator(ctx, opts...)
	c.cancels = append(c.cancels, stop)
	root, cancel := chromedp.NewContext(alloc)
	c.cancels = append(c.cancels, cancel)
	c.root = root
	if err := chromedp.Do(root); err != nil {
		c.Close()
		return nil, kidoban.Wrap(kidoban.KindUnreachable, err, "Chromium (%s) does not start", path)
	}
	return c, nil
}

// Close ends the browser and waits for it.
func (c *Chromium) Close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for i := len(c.cancels) - 1; i >= 0; i-- {
		c.cancels[i]()
	}
}
