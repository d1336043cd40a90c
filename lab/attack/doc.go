// Package attack holds the attacks of the literature on MCP's authorization as
// scripts that anybody can run on loopback: OAuth phishing with a client that
// registered itself, the confused deputy, the callback in somebody else's browser,
// the banned callback that comes back in disguise.
//
// # The idea
//
// A defence is believed when the same script that robs a weak server fails at a
// strong one. So each script is one function that knows no server: it registers,
// makes links, and drives real browsers, Chromium, of a victim and, where there
// is one, of the attacker. [Attack.Run] says what the attacker got hold of and on
// which page the way ended.
//
// The victim is somebody reasonable: logs in, connects accounts when asked, and
// says yes to a page unless it names a host that is not the one in the story they
// were told. What the victim cannot see, they cannot refuse; that is what the
// weak servers live on.
//
// Everything stays on loopback: the attacker's hosts are names that the browsers
// resolve to a listener here. Run only against servers of your own.
package attack
