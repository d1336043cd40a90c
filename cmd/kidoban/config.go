package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/kidoban/kidoban"
	"github.com/kidoban/kidoban/audit"
)

// config is kidoban.yaml.
type config struct {
	Suppressions []audit.Suppression
}

// configFile is the file's shape. Unknown members are errors: a misspelt
// suppression must not be silently without effect.
type configFile struct {
	Suppressions []struct {
		Check       string `yaml:"check"`
		Target      string `yaml:"target"`
		Fingerprint string `yaml:"fingerprint"`
		Reason      string `yaml:"reason"`
		Owner       string `yaml:"owner"`
		Expires     string `yaml:"expires"`
	} `yaml:"suppressions"`
}

const (
	defaultConfig = "kidoban.yaml"
	maxConfig     = 1 << 20
)

// readConfig reads the named file, or kidoban.yaml where there is one.
func readConfig(name string) (config, error) {
	file := name
	if file == "" {
		file = defaultConfig
	}
	f, err := os.Open(file)
	if name == "" && errors.Is(err, fs.ErrNotExist) {
		return config{}, nil
	}
	if err != nil {
		return config{}, kidoban.Wrap(kidoban.KindUsage, err, "cannot read %s", file)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil || len(raw) > maxConfig {
		return config{}, kidoban.Errorf(kidoban.KindUsage, "%s cannot be read or is larger than 1 MiB", file)
	}
	return parseConfig(file, raw)
}

func parseConfig(file string, raw []byte) (config, error) {
	var in configFile
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return config{}, kidoban.Wrap(kidoban.KindInput, errors.New(yaml.FormatError(err, false, true)), "%s has a mistake", file)
	}
	var c config
	for _, s := range in.Suppressions {
		sup := audit.Suppression{Check: s.Check, Target: s.Target, Fingerprint: s.Fingerprint, Reason: s.Reason, Owner: s.Owner, Expires: s.Expires}
		if err := sup.Validate(); err != nil {
			return config{}, err
		}
		c.Suppressions = append(c.Suppressions, sup)
	}
	return c, nil
}
