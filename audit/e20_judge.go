package audit

import (
	"strings"

	"github.com/kidoban/kidoban"
)

var e20Keys = []string{"E20-a", "E20-b", "E20-c", "E20-d", "E20-e", "E20-f", "E20-g"}

func judgeE20(f *Facts, ev e20Evidence) []kidoban.Result {
	all := func(judge func(key string) kidoban.Result) (out []kidoban.Result) {
		for _, k := range e20Keys {
			out = append(out, judge(k))
		}
		return out
	}
	switch {
	case ev.k1 == nil:
		return all(func(k string) kidoban.Result {
			r, _ := ev.at.turnedDown(k, "a client", f)
			if r.Outcome == kidoban.Pass {
				return absent(k, "no client could be registered, so there is none to manage", ev.at.x())
			}
			return r
		})
	case ev.k1.regURI == "" || ev.k1.regTok == "":
		return all(func(k string) kidoban.Result {
			return absent(k, "the server offers no management of registrations (RFC 7592)", ev.k1.X)
		})
	case ev.foreign:
		return all(func(k string) kidoban.Result {
			if k == "E20-g" {
				return positive(k, kidoban.Confirmed, "registration_client_uri is on another origin, where the management token would be sent: "+originOf(ev.k1.regURI), ev.k1.X)
			}
			return absent(k, "the management URI is on another origin and gets no request", ev.k1.X)
		})
	}
	g := passed("E20-g", "registration_client_uri is on the server's own origin", ev.k1.X)
	if ev.own.Status() != 200 {
		rest := all(func(k string) kidoban.Result {
			if r, bad := unanswered(k, ev.own); bad {
				return r
			}
			switch st := ev.own.Status(); st {
			case 404, 405, 410, 501:
				if k == "E20-f" {
					return positive(k, kidoban.Confirmed, "the registration_client_uri handed out does not work (status "+itoa(st)+"): clients cannot be removed", ev.own)
				}
				return absent(k, "registrations cannot be managed: the address handed out does not work", ev.own)
			}
			return unclear(k, kidoban.ReasonUnstable, "the client's own token gets status "+itoa(ev.own.Status()), ev.own)
		})
		return append(rest[:len(rest)-1], g)
	}
	return []kidoban.Result{
		ev.readable("E20-a", "a registration is read without any token", ev.bare),
		ev.judgeB(), ev.judgeC(), ev.judgeD(f), ev.judgeE(), ev.judgeF(), g,
	}
}

// readable judges a GET that must be refused.
func (ev *e20Evidence) readable(key, fact string, x *kidoban.Exchange) kidoban.Result {
	if r, bad := unanswered(key, x); bad {
		return r
	}
	switch {
	case shows(x, ev.k1):
		return positive(key, kidoban.Confirmed, fact, ev.own, x)
	case x.Status() >= 400 && x.Status() < 500:
		return passed(key, "refused with status "+itoa(x.Status()), ev.own, x)
	case x.Status() == 200:
		return passed(key, "the answer holds no registration", ev.own, x)
	}
	return unclear(key, kidoban.ReasonUnstable, "answered with status "+itoa(x.Status()), ev.own, x)
}

func (ev *e20Evidence) judgeB() kidoban.Result {
	const key = "E20-b"
	if ev.others == nil && (ev.k2 == nil || ev.k2.regTok == "") {
		return untested(key, kidoban.ReasonOwnServer, detailFor(kidoban.ReasonOwnServer))
	}
	return ev.readable(key, "a registration is read with another client's token", ev.others)
}

func (ev *e20Evidence) judgeC() kidoban.Result {
	const key = "E20-c"
	if ev.query == nil && ev.bare != nil && shows(ev.bare, ev.k1) {
		return unclear(key, kidoban.ReasonUnstable, "the registration is read without any token, so one in the query shows nothing", ev.bare)
	}
	return ev.readable(key, "the management token is taken from the query, where logs keep it", ev.query)
}

func (ev *e20Evidence) judgeD(f *Facts) kidoban.Result {
	const key = "E20-d"
	if ev.bad == "" && ev.put == nil {
		if f.ForeignReg != nil && f.ForeignReg.accepted() {
			return absent(key, "registration itself has refused no redirect URI, so there is no check to go around", f.ForeignReg.X)
		}
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	if r, bad := unanswered(key, ev.put); bad {
		return r
	}
	if !keepsURI(ev.put, ev.bad) {
		switch st := ev.put.Status(); {
		case st == 405 || st == 501 || st == 404:
			return passed(key, "registrations cannot be updated (status "+itoa(st)+")", ev.put)
		case st >= 400 && st < 500:
			return passed(key, "an update with a refused redirect URI is refused too: status "+itoa(st)+errorText(ev.put), ev.put)
		case st == 200:
			return passed(key, "an update leaves the refused redirect URI out", ev.put)
		}
		return unclear(key, kidoban.ReasonUnstable, "an update is answered with status "+itoa(ev.put.Status()), ev.put)
	}
	const fact = "an update takes a redirect URI that registration refused"
	switch t := ev.putTrail; {
	case t == nil || t.Budget:
		return positive(key, kidoban.Confirmed, fact, ev.put)
	case t.Kind == ErrorPage && !t.crashed() || t.Kind == CallbackError && !t.Foreign && !strings.HasSuffix(t.Error, "_required"):
		return passed(key, fact+", but the authorization endpoint refuses it: "+trailText(t), ev.put, t.Last())
	case t.Kind.reached():
		return positive(key, kidoban.Confirmed, fact+", and an authorization with it is taken up: "+trailText(t), ev.put, t.Last())
	default:
		return positive(key, kidoban.Confirmed, fact+"; what the authorization endpoint makes of it cannot be seen", ev.put, t.Last())
	}
}

// judgeE: a deleted client is an unknown client. Where the server takes unknown
// clients anyway that is another finding (F2), and this one cannot be told.
func (ev *e20Evidence) judgeE() kidoban.Result {
	const key = "E20-e"
	switch {
	case ev.del == nil && ev.k2 == nil:
		return untested(key, kidoban.ReasonOwnServer, detailFor(kidoban.ReasonOwnServer))
	case ev.del != nil && hidden(ev.del):
		r, _ := undecided(key, "the deletion", ev.del)
		return r
	case ev.del != nil && !deleted(ev.del):
		return absent(key, "the client could not be deleted (status "+itoa(ev.del.Status())+")", ev.del)
	case !ev.asked:
		return untested(key, kidoban.ReasonBudget, detailFor(kidoban.ReasonBudget))
	}
	t := ev.after
	if t.N1 != nil && t.B != nil && t.B.Kind.reached() && t.N1.Signature() == t.B.Signature() && t.N2 != nil && t.N2.Signature() != t.B.Signature() {
		return unclear(key, kidoban.ReasonUnstable, "the server takes any unknown client, so a deleted one shows nothing", ev.del, t.M1.Last())
	}
	r := verdict(key, "a request of a deleted client", t)
	if Decide(t).Outcome != kidoban.Fail {
		return r
	}
	if ev.late == nil {
		return unclear(key, kidoban.ReasonBudget, "a deleted client is taken right after its deletion; whether the server forgets it a little later was not seen", ev.del, t.M1.Last())
	}
	if why, bad := unclearKind(ev.late); bad {
		return unclear(key, why, "a deleted client is taken right after its deletion, and the look half a minute later shows nothing", t.M1.Last(), ev.late.Last())
	}
	if ev.late.Signature() != t.M1.Signature() {
		return unclear(key, kidoban.ReasonUnstable, "a deleted client is taken right after its deletion and no more half a minute later: the server forgets, if slowly", ev.del, t.M1.Last(), ev.late.Last())
	}
	r.Evidence = kidoban.Confirmed // every look came after the deletion was acknowledged
	return r
}

func (ev *e20Evidence) judgeF() kidoban.Result {
	const key = "E20-f"
	if ev.del == nil {
		return passed(key, "registrations can be managed at the address handed out", ev.own)
	}
	if r, bad := undecided(key, "the deletion", ev.del); bad {
		return r
	}
	if !deleted(ev.del) {
		return positive(key, kidoban.Confirmed, "a registration can be read but not deleted (status "+itoa(ev.del.Status())+")", ev.own, ev.del)
	}
	return passed(key, "a client can read and delete its registration", ev.own, ev.del)
}
