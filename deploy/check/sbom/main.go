// Command sbom writes the bill of materials of Go binaries in CycloneDX JSON to
// standard output. It reads what the linker wrote into them, so it lists exactly
// what is inside, and the same binaries give the same bytes.
//
//	sbom VERSION BINARY...
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom VERSION BINARY...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(version string, paths []string) error {
	parts := map[string]cdx.Component{}
	for _, path := range paths {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return err
		}
		add(parts, "std", strings.TrimPrefix(info.GoVersion, "go"), "")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(parts, m.Path, m.Version, m.Sum)
		}
	}
	list := make([]cdx.Component, 0, len(parts))
	refs := make([]string, 0, len(parts))
	for _, c := range parts {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	for _, c := range list {
		refs = append(refs, c.BOMRef)
	}
	root := "pkg:golang/github.com/kidoban/kidoban@v" + version
	b := cdx.NewBOM()
	b.Metadata = &cdx.Metadata{Component: &cdx.Component{BOMRef: root, Type: cdx.ComponentTypeApplication, Name: "kidoban", Version: version, PackageURL: root,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}}}
	b.Components = &list
	b.Dependencies = &[]cdx.Dependency{{Ref: root, Dependencies: &refs}}
	e := cdx.NewBOMEncoder(os.Stdout, cdx.BOMFileFormatJSON)
	return e.SetPretty(true).Encode(b)
}

// add keeps one entry for each module, whichever binaries hold it.
func add(parts map[string]cdx.Component, path, version, sum string) {
	url := "pkg:golang/" + path + "@" + version
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url, Scope: cdx.ScopeRequired}
	if h, ok := strings.CutPrefix(sum, "h1:"); ok { // SHA-256 over the module's files, as in go.sum
		if raw, err := base64.StdEncoding.DecodeString(h); err == nil {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
		}
	}
	parts[url] = c
}
