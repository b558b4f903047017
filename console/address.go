package console

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// A name stands in a path as it is when it has letters, digits and the marks . _ - alone. Any other is its bytes in base64, of the
// kind for URLs, after a tilde: so a slash, a question mark, two dots, a newline or what is no UTF-8 pass muxes and proxies,
// which would clean, decode or refuse them.

func encodeName(name string) string {
	if isPlain(name) {
		return name
	}
	return "~" + base64.RawURLEncoding.EncodeToString([]byte(name))
}

// decodeName reports false for what encodeName does not return, so that a server has one address.
func decodeName(s string) (string, bool) {
	encoded, isEncoded := strings.CutPrefix(s, "~")
	if !isEncoded {
		return s, isPlain(s)
	}
	name, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	return string(name), err == nil && !isPlain(string(name))
}

func isPlain(name string) bool {
	for _, b := range []byte(name) {
		isMark := b == '.' || b == '_' || b == '-'
		if !isMark && (b < '0' || b > '9') && (b < 'A' || b > 'Z') && (b < 'a' || b > 'z') {
			return false
		}
	}
	return strings.Trim(name, ".") != ""
}

// serverPath is the path of a server below the console's root, typePath that of a type, messagePath that of a message.
func serverPath(ref dserver.Ref) string {
	return "server/" + encodeName(ref.Type) + "/" + encodeName(ref.ID)
}

func typePath(typ string) string { return "type/" + encodeName(typ) }

func messagePath(ref dserver.Ref, stamp backend.Versionstamp) string {
	return serverPath(ref) + "/message/" + stamp.String()
}

// refIn is the server that a request's path names.
func refIn(r *http.Request) (dserver.Ref, error) {
	typ, isType := decodeName(r.PathValue("type"))
	id, isID := decodeName(r.PathValue("id"))
	if !isType || !isID || strings.Contains(typ, "/") {
		return dserver.Ref{}, notFound("This address names no server.")
	}
	ref, err := dserver.ParseRef(typ + "/" + id)
	if err != nil {
		return ref, notFound("This address names no server.")
	}
	return ref, nil
}

// stampIn is the message that a request names by a stamp.
func stampIn(s string) (backend.Versionstamp, error) {
	stamp, err := backend.ParseVersionstamp(s)
	if err != nil {
		return stamp, notFound("This address names no message.")
	}
	return stamp, nil
}

// rootOf is the console's root as seen from the page of a path: pages link by relative addresses alone, as the path before the
// root is the program's.
func rootOf(path string) string {
	if n := strings.Count(path, "/"); n > 1 {
		return strings.Repeat("../", n-1)
	}
	return "./"
}
