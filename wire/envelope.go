package wire

import "strconv"

// The Append functions write a new envelope around raw values, so that nothing
// the sender put beside JSON-RPC's own members goes on. dst may be nil or a
// pooled buffer; the extended buffer is returned.

// IntID returns the id of a request that we make ourselves.
func IntID(n int64) ID { return ID{strconv.AppendInt(nil, n, 10)} }

// StringID returns a string id.
func StringID(s string) ID { return ID{Quote(s)} }

// AppendRequest writes a request. params nil leaves the member out.
func AppendRequest(dst []byte, id ID, method string, params Raw) []byte {
	dst = appendID(append(dst, `{"jsonrpc":"2.0"`...), id)
	return appendCall(dst, method, params)
}

// AppendNotification writes a notification.
func AppendNotification(dst []byte, method string, params Raw) []byte {
	return appendCall(append(dst, `{"jsonrpc":"2.0"`...), method, params)
}

func appendCall(dst []byte, method string, params Raw) []byte {
	dst = AppendQuote(append(dst, `,"method":`...), method)
	if params != nil {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}

// AppendResult writes the reply to a request.
func AppendResult(dst []byte, id ID, result Raw) []byte {
	dst = appendID(append(dst, `{"jsonrpc":"2.0"`...), id)
	return append(append(append(dst, `,"result":`...), result...), '}')
}

// AppendErrorRaw writes an error reply around a raw error object. An id that
// is not known is written as null.
func AppendErrorRaw(dst []byte, id ID, raw Raw) []byte {
	if len(id.Raw) == 0 {
		id.Raw = Raw("null")
	}
	dst = appendID(append(dst, `{"jsonrpc":"2.0"`...), id)
	return append(append(append(dst, `,"error":`...), raw...), '}')
}

// AppendError writes an error reply. data nil leaves the member out.
func AppendError(dst []byte, id ID, code int, message string, data Raw) []byte {
	e := append([]byte(`{"code":`), strconv.Itoa(code)...)
	e = AppendQuote(append(e, `,"message":`...), message)
	if data != nil {
		e = append(append(e, `,"data":`...), data...)
	}
	return AppendErrorRaw(dst, id, append(e, '}'))
}

// AppendMessage writes m in a new envelope: its kind, id, method and raw
// values, nothing else.
func AppendMessage(dst []byte, m Message) []byte {
	switch m.Kind {
	case Request:
		return AppendRequest(dst, m.ID, m.Method, m.Params)
	case Notification:
		return AppendNotification(dst, m.Method, m.Params)
	case Result:
		return AppendResult(dst, m.ID, m.Result)
	}
	return AppendErrorRaw(dst, m.ID, m.Error)
}

func appendID(dst []byte, id ID) []byte {
	if len(id.Raw) == 0 {
		return dst
	}
	return append(append(dst, `,"id":`...), id.Raw...)
}
