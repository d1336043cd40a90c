package policy

import (
	"bytes"
	"encoding/json"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/kidoban/kidoban"
)

const (
	maxDepth  = 32
	maxValues = 10_000
)

// arguments turns a tool's arguments into a Cedar record. Integers become longs,
// other numbers decimals where Cedar has them (four digits) and strings where it
// has not, null is absent. What is deeper or larger than the bounds is an error:
// a policy must not judge a part.
func arguments(raw []byte) (types.Record, error) {
	if len(raw) == 0 {
		return types.Record{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return types.Record{}, kidoban.Wrap(kidoban.KindInput, err, "the arguments are not JSON")
	}
	left := maxValues
	value, err := convert(v, 0, &left)
	if err != nil {
		return types.Record{}, err
	}
	record, ok := value.(types.Record)
	if !ok {
		return types.Record{}, kidoban.Errorf(kidoban.KindInput, "the arguments are no object")
	}
	return record, nil
}

func convert(v any, depth int, left *int) (types.Value, error) {
	if *left--; *left < 0 || depth > maxDepth {
		return nil, kidoban.Errorf(kidoban.KindLimit, "the arguments are deeper than %d levels or hold more than %d values", maxDepth, maxValues)
	}
	switch v := v.(type) {
	case bool:
		return types.Boolean(v), nil
	case string:
		return types.String(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return types.Long(n), nil
		}
		if d, err := types.ParseDecimal(v.String()); err == nil {
			return d, nil
		}
		return types.String(v.String()), nil
	case []any:
		list := make([]types.Value, 0, len(v))
		for _, e := range v {
			x, err := convert(e, depth+1, left)
			if err != nil {
				return nil, err
			}
			if x != nil {
				list = append(list, x)
			}
		}
		return types.NewSet(list...), nil
	case map[string]any:
		m := make(types.RecordMap, len(v))
		for name, e := range v {
			x, err := convert(e, depth+1, left)
			if err != nil {
				return nil, err
			}
			if x != nil {
				m[types.String(name)] = x
			}
		}
		return types.NewRecord(m), nil
	}
	return nil, nil
}
