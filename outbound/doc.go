// Package outbound is the only way out of the program. Every URL Kidoban
// fetches comes from somebody it does not trust: the server under audit, a
// stranger's client document, an upstream's metadata. So each request is judged
// where it cannot be talked round: the host is resolved once, every address is
// checked against the special-use ranges of IANA, and exactly the checked
// address is dialled (auth-flaws 5.7, requirement E15).
//
// What a Client promises for each request:
//
//   - https only. http goes to loopback in Lab mode, and anywhere else only with
//     Req.AllowPlain, which carries no credential.
//   - No special-use address, in any notation, by any name; Lab opens loopback
//     and nothing else. No proxy from the environment.
//   - No redirect is followed: the answer says where it leads, and whoever goes
//     there asks anew.
//   - Header, decoded body and whole-exchange time are bounded. A response of
//     which only the head arrived is still a response; Exchange.Err says why the
//     rest is missing.
//   - Politeness per host and a budget for the whole client.
//
// An Exchange in memory is complete, secrets included: judges need them. A
// Recorder keeps redacted copies only, and so may write them to a file.
//
// Sizing: a Client holds a few idle connections per host and no goroutine of its
// own besides those of its connections. Make one per run, not one per request.
// Close ends it.
package outbound
