// Package check proves what stands beside it: that the Helm chart renders into
// objects Kubernetes knows, the compose file loads, the container file builds the
// binary the same way as make, and that every config in them is one the gateway
// accepts. It is a module of its own, so that the program does not depend on Helm.
package check

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// render is helm template: the objects by kind and name, each decoded strictly
// into the type of its API version, so that a misspelt member fails.
func render(t *testing.T, values map[string]any) map[string]any {
	t.Helper()
	c, err := loader.Load("../helm/kidoban")
	if err != nil {
		t.Fatal(err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	merged, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "mcp", Namespace: "edge", IsInstall: true}, caps)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(c, merged)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			var head struct {
				APIVersion, Kind string
				Metadata         struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			var into any
			switch head.APIVersion + " " + head.Kind {
			case "v1 ConfigMap":
				into = &corev1.ConfigMap{}
			case "v1 Service":
				into = &corev1.Service{}
			case "apps/v1 Deployment":
				into = &appsv1.Deployment{}
			case "policy/v1 PodDisruptionBudget":
				into = &policyv1.PodDisruptionBudget{}
			case "networking.k8s.io/v1 Ingress":
				into = &networkingv1.Ingress{}
			case "networking.k8s.io/v1 NetworkPolicy":
				into = &networkingv1.NetworkPolicy{}
			case "monitoring.coreos.com/v1 ServiceMonitor":
				into = &map[string]any{}
			default:
				t.Fatalf("%s: unexpected %s %s", name, head.APIVersion, head.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			out[head.Kind+" "+head.Metadata.Name] = into
		}
	}
	return out
}

// program is the gateway's binary, built once for all tests.
var program = func() string { return filepath.Join(os.TempDir(), fmt.Sprintf("kidoban-check-%d", os.Getpid())) }()

func TestMain(m *testing.M) {
	b := exec.Command("go", "build", "-o", program, "./cmd/kidoban")
	b.Dir, b.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if said, err := b.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the program does not build: %v\n%s", err, said)
		os.Exit(1)
	}
	code := m.Run()
	os.Remove(program)
	os.Exit(code)
}

// accepted lets the gateway itself judge a config, with the secrets' places moved
// to where they are in this test.
func accepted(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "database_url"), []byte("postgres://kidoban:x@127.0.0.1:1/kidoban\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "kidoban.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(config, "/run/kidoban", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(program, "gateway", "check", "--config", path, "--data", filepath.Join(dir, "data")).CombinedOutput()
	if err != nil {
		t.Errorf("the gateway refuses the config: %v\n%s\n%s", err, said, config)
	}
}

func TestHelmChart(t *testing.T) {
	objects := render(t, nil)
	d, ok := objects["Deployment mcp-kidoban"].(*appsv1.Deployment)
	if !ok {
		t.Fatalf("no deployment in %v", objects)
	}
	c := d.Spec.Template.Spec.Containers[0]
	switch {
	case *d.Spec.Replicas != 2:
		t.Errorf("%d replicas", *d.Spec.Replicas)
	case c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" || c.StartupProbe == nil:
		t.Error("a probe is missing")
	case *d.Spec.Template.Spec.TerminationGracePeriodSeconds <= 20:
		t.Error("pods are killed before they have drained")
	case *c.SecurityContext.AllowPrivilegeEscalation || !*c.SecurityContext.ReadOnlyRootFilesystem || !*d.Spec.Template.Spec.SecurityContext.RunAsNonRoot:
		t.Error("the container has more rights than it needs")
	}
	if objects["Ingress mcp-kidoban"] != nil || objects["NetworkPolicy mcp-kidoban"] != nil {
		t.Error("what is off was rendered")
	}
	accepted(t, objects["ConfigMap mcp-kidoban"].(*corev1.ConfigMap).Data["kidoban.yaml"])
}

func TestHelmChartWithEverything(t *testing.T) {
	objects := render(t, map[string]any{
		"publicURL": "https://gate.example.net", "replicas": 3,
		"ingress": map[string]any{"enabled": true, "className": "nginx", "tls": []any{map[string]any{"secretName": "t", "hosts": []any{"gate.example.net"}}}},
		"metrics": map[string]any{"enabled": true, "serviceMonitor": true}, "networkPolicy": map[string]any{"enabled": true},
		"nodeSelector": map[string]any{"disk": "ssd"}, "tolerations": []any{map[string]any{"key": "x", "operator": "Exists"}},
		"config": map[string]any{"servers": map[string]any{"tickets": map[string]any{"url": "https://tickets.example/mcp"}}, "telemetry": map[string]any{"otlp": "https://otlp.example:4318"}},
	})
	in, ok := objects["Ingress mcp-kidoban"].(*networkingv1.Ingress)
	if !ok || in.Spec.Rules[0].Host != "gate.example.net" || *in.Spec.IngressClassName != "nginx" {
		t.Errorf("ingress %+v", in)
	}
	if objects["NetworkPolicy mcp-kidoban"] == nil || objects["ServiceMonitor mcp-kidoban"] == nil {
		t.Errorf("not everything was rendered: %v", objects)
	}
	config := objects["ConfigMap mcp-kidoban"].(*corev1.ConfigMap).Data["kidoban.yaml"]
	for _, want := range []string{"tickets.example", "otlp.example", "metrics: 0.0.0.0:9464", "public_url: https://gate.example.net"} {
		if !strings.Contains(config, want) {
			t.Errorf("the config lacks %s:\n%s", want, config)
		}
	}
	accepted(t, config)
}

func TestHelmValuesAreChecked(t *testing.T) {
	c, err := loader.Load("../helm/kidoban")
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range []map[string]any{
		{"publicURL": "http://mcp.example.org"}, {"replicas": 0}, {"existingSecret": ""}, {"repl1cas": 2},
		{"config": map[string]any{"database": "postgres://u:secret@h/d"}}, {"config": map[string]any{"open": true}},
	} {
		if _, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "mcp"}, nil); err == nil {
			t.Errorf("%v is accepted", values)
		}
	}
}

func TestComposeFile(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateway-1", "gateway-2"} {
		s, err := p.GetService(name)
		if err != nil || s.Build == nil || !s.ReadOnly || len(s.CapDrop) == 0 || s.Hostname != name {
			t.Errorf("%s: %v %+v", name, err, s.Build)
			continue
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
	}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s opens port %s to the network", name, port.Published)
			}
		}
	}
	raw, err := os.ReadFile("../compose/kidoban.yaml")
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, string(raw))
}

// TestContainerFileBuildsLikeMake: the line that builds is the make target
// that everybody uses, on the Go version of go.mod.
func TestContainerFileBuildsLikeMake(t *testing.T) {
	raw, err := os.ReadFile("../container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if version == nil || !bytes.Contains(raw, append([]byte("golang:"), version[1]...)) {
		t.Errorf("go.mod wants Go %s, the container file has another", version)
	}
	var builds []string
	for _, line := range strings.Split(string(raw), "\n") {
		if run, ok := strings.CutPrefix(line, "RUN "); ok && run != "go mod download" {
			builds = append(builds, run)
		}
	}
	// The first brings what make build brings itself where npm is.
	if !slices.Equal(builds, []string{"scripts/htmx.sh --must", "make build"}) {
		t.Errorf("it builds with %q", builds)
	}
}

// TestSystemdUnit lets systemd read the unit, with the program where it is here.
func TestSystemdUnit(t *testing.T) {
	raw, err := os.ReadFile("../systemd/kidoban.service")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kidoban.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(raw, []byte("/usr/local/bin/kidoban"), []byte(program)), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("systemd-analyze", "verify", "--recursive-errors=no", path).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(said)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
}
