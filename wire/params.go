package wire

import "strings"

// Params is what policy needs to know of a request's params, found without
// decoding the rest. The raw slices point into the params.
type Params struct {
	Name            string // params.name
	URI             string // params.uri
	TaskID          string // params.taskId
	Cursor          string // params.cursor
	Arguments       Raw    // params.arguments; nil when absent
	Meta            Raw    // params._meta; nil when absent
	ProtocolVersion string // of _meta (modern) or params.protocolVersion (initialize)
	RequestState    Raw    // params.requestState; nil when absent
	InputResponses  Raw    // params.inputResponses; nil when absent
	Capabilities    Raw    // _meta client capabilities or params.capabilities
	ClientInfo      Raw    // _meta client info or params.clientInfo
	ProgressToken   Raw    // _meta.progressToken
}

// paramNames are the members whose meaning policy depends on. In another case
// a tolerant server may read them as these, so they are refused.
var paramNames = [...]string{"name", "uri", "taskId", "cursor", "arguments", "_meta", "protocolVersion",
	"requestState", "inputResponses", "capabilities", "clientInfo", "ref", "notifications"}

// PeekParams looks into the params of an accepted message. It refuses, with a
// *Refusal, members that differ from a known one in case only, names, URIs and
// cursors that are no strings, and arguments or _meta that are no objects.
func PeekParams(raw Raw) (Params, error) {
	var p Params
	var err error
	Each(raw, func(name, value Raw) bool {
		text, _ := stringText(name)
		err = p.set(string(text), value)
		return err == nil
	})
	if err != nil {
		return p, err
	}
	return p, p.setMeta()
}

func (p *Params) set(name string, value Raw) error {
	switch name {
	case "name":
		return setString(&p.Name, name, value)
	case "uri":
		return setString(&p.URI, name, value)
	case "taskId":
		return setString(&p.TaskID, name, value)
	case "cursor":
		return setString(&p.Cursor, name, value)
	case "protocolVersion":
		return setString(&p.ProtocolVersion, name, value)
	case "arguments":
		return setObject(&p.Arguments, name, value)
	case "_meta":
		return setObject(&p.Meta, name, value)
	case "capabilities":
		return setObject(&p.Capabilities, name, value)
	case "clientInfo":
		return setObject(&p.ClientInfo, name, value)
	case "requestState":
		p.RequestState = value
	case "inputResponses":
		p.InputResponses = value
	default:
		for _, known := range paramNames {
			if name != known && strings.EqualFold(name, known) {
				return malformed(WhyCase, "The params member %s is written in another case.", known)
			}
		}
	}
	return nil
}

// setMeta reads the modern members of _meta.
func (p *Params) setMeta() error {
	var err error
	Each(p.Meta, func(name, value Raw) bool {
		text, _ := stringText(name)
		switch string(text) {
		case MetaProtocolVersion:
			err = setString(&p.ProtocolVersion, "_meta protocolVersion", value)
		case MetaClientCapabilities:
			err = setObject(&p.Capabilities, "_meta clientCapabilities", value)
		case MetaClientInfo:
			err = setObject(&p.ClientInfo, "_meta clientInfo", value)
		case MetaProgressToken:
			p.ProgressToken = value
		default:
			if len(text) > 20 && (strings.EqualFold(string(text), MetaProtocolVersion) || strings.EqualFold(string(text), MetaClientCapabilities)) {
				err = malformed(WhyCase, "A member of _meta is written in another case.")
			}
		}
		return err == nil
	})
	return err
}

// HasModernMeta tells whether params carry the modern version member, which
// makes a request modern whatever its headers say.
func HasModernMeta(raw Raw) bool {
	_, ok := Lookup(raw, "_meta", MetaProtocolVersion)
	return ok
}

func setString(dst *string, name string, value Raw) error {
	s, ok := String(value)
	if !ok {
		return refuseParams("The params member %s is not a string.", name)
	}
	*dst = s
	return nil
}

func setObject(dst *Raw, name string, value Raw) error {
	if string(value) == "null" {
		return nil
	}
	if value[0] != '{' {
		return refuseParams("The params member %s is not an object.", name)
	}
	*dst = value
	return nil
}

func refuseParams(format string, args ...any) error {
	r := malformed(WhyParams, format, args...).(*Refusal)
	r.RPC = CodeInvalidParams
	return r
}
