package browser

// readScript gives the page as a person sees it: the elements that show, in
// document order, each marked with its number so that the next step finds it.
const readScript = `(() => {
  const shown = e => { const s = getComputedStyle(e), r = e.getBoundingClientRect(); return s.visibility !== "hidden" && s.display !== "none" && (r.width > 0 || r.height > 0) && !e.disabled };
  const forms = [...document.forms], out = [];
  const label = e => { let t = ""; if (e.labels) for (const l of e.labels) t += " " + l.innerText; const by = e.getAttribute("aria-labelledby"); if (by) for (const id of by.split(/\s+/)) { const n = document.getElementById(id); if (n) t += " " + n.innerText } return t + " " + (e.getAttribute("aria-label") || "") + " " + (e.getAttribute("placeholder") || "") };
  for (const e of document.querySelectorAll("input,button,textarea,select,a[href],[role=button]")) {
    if (out.length >= 400) break;
    const tag = e.tagName.toLowerCase(), type = (e.getAttribute("type") || "").toLowerCase(), hidden = tag === "input" && type === "hidden";
    if (!hidden && !shown(e)) continue;
    const i = out.length; e.setAttribute("data-kidoban-step", i);
    const o = {i, kind: tag, type, name: e.getAttribute("name") || "", id: e.id || "", auto: (e.getAttribute("autocomplete") || "").toLowerCase(), label: "", value: "", form: e.form ? forms.indexOf(e.form) : -1, href: ""};
    if (tag === "a") { o.kind = e.getAttribute("role") === "button" ? "button" : "link"; o.label = e.innerText; o.href = e.href }
    else if (tag === "button" || tag === "input" && ["submit","button","image","reset"].includes(type)) { o.type = type || (tag === "button" ? "submit" : ""); o.label = (e.getAttribute("aria-label") || "") + " " + (tag === "button" ? e.innerText : e.value); o.value = e.value || "" }
    else if (tag !== "input" && tag !== "textarea" && tag !== "select") { o.kind = "button"; o.label = (e.getAttribute("aria-label") || "") + " " + e.innerText }
    else { if (hidden) o.kind = "hidden"; else o.label = label(e); if (tag === "input" && !type) o.type = "text"; if (type !== "password") o.value = e.value || "" }
    o.label = o.label.replace(/\s+/g, " ").trim().slice(0, 300); o.value = o.value.slice(0, 2000);
    out.push(o);
  }
  return JSON.stringify({URL: location.href, Title: document.title, Text: document.body ? document.body.innerText.slice(0, 65536) : "", HTML: document.documentElement ? document.documentElement.outerHTML.slice(0, 524288) : "", Elements: out});
})()`

// actScript does one step on an element that readScript marked. It returns "" or
// what was wrong.
const actScript = `(fn, raw) => {
  const args = JSON.parse(raw);
  if (fn === "setMember") {
    const f = document.forms[args[0]]; if (!f) return "there is no form of that number";
    let m = f.querySelector('input[name="' + CSS.escape(args[1]) + '"]');
    if (!m) { m = document.createElement("input"); m.type = "hidden"; m.name = args[1]; f.appendChild(m) }
    m.value = args[2]; return "";
  }
  const e = document.querySelector('[data-kidoban-step="' + Number(args[0]) + '"]');
  if (!e) return "the element is no longer there";
  if (fn === "fillIn") {
    e.focus();
    const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(e), "value");
    if (set && set.set) set.set.call(e, args[1]); else e.value = args[1];
    e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true}));
    return "";
  }
  setTimeout(() => e.click(), 0); return "";
}`

// laterScript ends after the tasks that were queued before it, and after those that
// they queued.
const laterScript = `new Promise(done => setTimeout(() => setTimeout(() => done(true), 0), 0))`

// watchScript tells what a person does: trusted events only. The value of a password
// field never leaves the page.
const watchScript = `(() => {
  if (window !== window.top) return;
  const told = new Map(), tell = o => { try { window.kidobanTold(JSON.stringify(o)) } catch (_) {} };
  const label = e => { let t = ""; if (e.labels) for (const l of e.labels) t += " " + l.innerText; const by = e.getAttribute("aria-labelledby"); if (by) for (const id of by.split(/\s+/)) { const n = document.getElementById(id); if (n) t += " " + n.innerText } return t + " " + (e.getAttribute("aria-label") || "") + " " + (e.getAttribute("placeholder") || "") };
  const of = (e, words) => ({kind: e.tagName.toLowerCase() === "a" ? "link" : e.matches("input,textarea,select") ? e.tagName.toLowerCase() : "button", type: (e.getAttribute("type") || (e.tagName === "INPUT" ? "text" : "")).toLowerCase(), name: e.getAttribute("name") || "", id: e.id || "", auto: (e.getAttribute("autocomplete") || "").toLowerCase(), label: words.replace(/\s+/g, " ").trim().slice(0, 300)});
  const fields = "input,textarea,select", pressed = "button,a[href],[role=button],input[type=submit],input[type=button],input[type=image]";
  const fill = e => { const t = (e.type || "").toLowerCase(); if (["submit","button","image","reset","file","hidden","checkbox","radio"].includes(t)) return; if (!e.value || told.get(e) === e.value) return; told.set(e, e.value); tell({What: "fill", Value: t === "password" ? "" : e.value.slice(0, 500), Element: of(e, label(e))}) };
  addEventListener("change", ev => { if (ev.isTrusted && ev.target.matches && ev.target.matches(fields)) fill(ev.target) }, true);
  addEventListener("click", ev => {
    if (!ev.isTrusted || !ev.target.closest) return;
    const e = ev.target.closest(pressed); if (!e) return;
    for (const f of (e.form || document).querySelectorAll(fields)) fill(f);
    tell({What: "click", Element: of(e, (e.getAttribute("aria-label") || "") + " " + (e.tagName === "INPUT" ? e.value : e.innerText))});
  }, true);
  const c = navigator.credentials;
  if (c && c.get) { const get = c.get.bind(c); c.get = o => { if (o && o.publicKey) tell({What: "passkey", Element: {}}); return get(o) } }
})()`
