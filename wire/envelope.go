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
	return AppendMessage(dst, Message{Kind: Request, ID: id, Method: method, Params: params})
}

// AppendNotification writes a notification.
func AppendNotification(dst []byte, method string, params Raw) []byte {
	return AppendMessage(dst, Message{Kind: Notification, Method: method, Params: params})
}

// AppendResult writes the reply to a request.
func AppendResult(dst []byte, id ID, result Raw) []byte {
	return AppendMessage(dst, Message{Kind: Result, ID: id, Result: result})
}

// AppendErrorRaw writes an error reply around a raw error object. An id that
// is not known is written as null.
func AppendErrorRaw(dst []byte, id ID, raw Raw) []byte {
	return AppendMessage(dst, Message{Kind: ErrorReply, ID: id, Error: raw})
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
	dst, value, tail := SplitMessage(dst, m)
	return append(append(dst, value...), tail...)
}

// SplitMessage is AppendMessage without a copy of the message's value: head, written
// to dst, value and tail follow each other, and value is params, result or error.
func SplitMessage(dst []byte, m Message) (head []byte, value Raw, tail string) {
	id := m.ID
	if m.Kind == Notification {
		id = ID{}
	} else if m.Kind == ErrorReply && len(id.Raw) == 0 {
		id.Raw = Raw("null")
	}
	head, tail = appendID(append(dst, `{"jsonrpc":"2.0"`...), id), messageTail
	switch m.Kind {
	case Request, Notification:
		head = AppendQuote(append(head, `,"method":`...), m.Method)
		if m.Params == nil {
			return head, nil, tail
		}
		return append(head, `,"params":`...), m.Params, tail
	case Result:
		return append(head, `,"result":`...), m.Result, tail
	}
	return append(head, `,"error":`...), m.Error, tail
}

const messageTail = "}"

func appendID(dst []byte, id ID) []byte {
	if len(id.Raw) == 0 {
		return dst
	}
	return append(append(dst, `,"id":`...), id.Raw...)
}
