package console

// navGroup is a part of the navigation.
type navGroup struct {
	Title string // text id
	Items []navItem
}

type navItem struct {
	Href  string
	Title string
	Here  bool
	Waits string // how many wait there, "" for none
}

// navPages are the pages for administrators, in the order they are worked with.
var navPages = []struct {
	title string
	pages []string
}{
	{"nav_watch", []string{"overview", "alerts", "log"}},
	{"nav_servers", []string{"servers", "definitions"}},
	{"nav_access", []string{"clients", "hosts", "domains", "deny", "grants", "users"}},
	{"nav_system", []string{"limits", "settings"}},
}

// nav is the navigation for the person before it.
func (v *visit) nav(f *frame) []navGroup {
	var out []navGroup
	here := ""
	if v.route != nil {
		here = v.route.nav
	}
	item := func(page string) navItem {
		href := v.s.Path() + "/" + page
		if page == "overview" {
			href = v.s.Path()
		}
		return navItem{Href: href, Title: say(v.langs[0], "title_"+page), Here: here == page}
	}
	if v.guest.Admin {
		for _, g := range navPages {
			x := navGroup{Title: g.title}
			for _, p := range g.pages {
				x.Items = append(x.Items, item(p))
			}
			out = append(out, x)
		}
	}
	own := navGroup{Title: "nav_mine", Items: []navItem{item("start"), item("mine")}}
	for _, l := range v.s.deps.Pages {
		if l.Admin && !v.guest.Admin {
			continue
		}
		title := l.Title[v.langs[0]]
		if title == "" {
			title = l.Title["en"]
		}
		x := navItem{Href: v.s.base + l.Path, Title: title}
		if l.Calls && f.Calls > 0 {
			x.Waits = f.Num(f.Calls)
		}
		own.Items = append(own.Items, x)
	}
	own.Items = append(own.Items, navItem{Href: v.s.base + "/account", Title: say(v.langs[0], "account")})
	return append(out, own)
}
