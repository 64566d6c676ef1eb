// Prints image_references.jsonl: for many texts, what containers/image makes of them on a node.
// Made again with: cd tests/vectors && go run . > image_references.jsonl
package main

import (
	_ "crypto/sha256" // so that go-digest knows them, as in the programs on nodes
	_ "crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/containers/image/v5/docker/reference"
)

type parts struct {
	Domain string `json:"domain"`
	Path   string `json:"path"`
	Tag    string `json:"tag"`
	Digest string `json:"digest"`
}

type vector struct {
	Text string `json:"text"`
	// Short: a node would have to guess the registry, or is left with none.
	Short bool `json:"short"`
	// Node is null when containers/image refuses the text.
	Node *parts `json:"node"`
}

func texts() []string {
	hex := strings.Repeat("0123456789abcdef", 4)
	hosts := []string{"", "quay.io/", "quay.io:443/", "localhost/", "localhost:5000/", "127.0.0.1:5000/",
		"[::1]:5000/", "QUAY.io/", "quay_io.x/", "-quay.io/", "quay-.io/", "quay..io/", "quay.io:/",
		"quay.io:x/", "docker.io/", "index.docker.io/", "registry/", "a.b/", "1.2/", "quay.io./"}
	paths := []string{"os", "acme/os", "acme/team/os", "Acme/os", "acme//os", "/os", "os/", "a_b/os", "a__b/os",
		"a___b/os", "a-b/os", "a---b/os", "a.b/os", "a..b/os", "a._b/os", "_a/os", "a_/os", "-a/os", "a-/os",
		"a b/os", "ä/os", "a+b/os", "0/1", hex, "", "library/os"}
	suffixes := []string{"", ":4.18", ":", ":-x", ":.x", ":_x", ":a b", ":4.18:5", ":" + strings.Repeat("t", 128),
		":" + strings.Repeat("t", 129), "@sha256:" + hex, ":4.18@sha256:" + hex, "@", "@sha256", "@sha256:",
		"@sha256:" + hex[1:], "@sha256:" + hex + "0", "@sha256:" + strings.ToUpper(hex), "@SHA256:" + hex,
		"@sha512:" + hex + hex, "@sha512:" + hex, "@sha384:" + hex + hex[:32], "@md5:" + hex[:32],
		"@sha256:" + hex[1:] + "g", "@sha256:" + hex + "@sha256:" + hex, "@x+y:" + hex, ":latest@", ":é"}
	list := []string{"", " ", " quay.io/acme/os", "quay.io/acme/os ", "quay.io/acme/os\n", "docker://quay.io/acme/os",
		"https://quay.io/acme/os", "ostree-unverified-registry:quay.io/acme/os:1", "oci:/tmp/x", "oci:5000/os",
		"dir:/x", "quay.io", "quay.io:443", ":", "@", "/", "quay.io/" + strings.Repeat("a", 247),
		"quay.io/" + strings.Repeat("a", 248), "quay.io/" + strings.Repeat("a/", 123) + "b",
		"docker.io/" + strings.Repeat("a", 237), "docker.io/" + strings.Repeat("a", 238), "a.b/c\x00d", "a.b/c\td"}
	for _, host := range hosts {
		for index, path := range paths {
			list = append(list, host+path)
			if host == "quay.io/" || host == "localhost:5000/" || index == 1 {
				list = append(list, host+path+":4.18", host+path+"@sha256:"+hex)
			}
		}
	}
	for _, name := range []string{"quay.io/acme/os", "os", "localhost:5000/os"} {
		for _, suffix := range suffixes {
			list = append(list, name+suffix)
		}
	}
	return list
}

func main() {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	seen := map[string]bool{}
	for _, text := range texts() {
		if seen[text] {
			continue
		}
		seen[text] = true
		v := vector{Text: text}
		if named, err := reference.ParseNormalizedNamed(text); err == nil {
			v.Node = &parts{Domain: reference.Domain(named), Path: reference.Path(named)}
			if tagged, ok := named.(reference.Tagged); ok {
				v.Node.Tag = tagged.Tag()
			}
			if digested, ok := named.(reference.Digested); ok {
				v.Node.Digest = digested.Digest().String()
			}
			first, _, _ := strings.Cut(text, "/")
			v.Short = v.Node.Domain == "" || !strings.Contains(text, "/") || !(strings.ContainsAny(first, ".:") || first == "localhost")
		}
		if err := out.Encode(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
