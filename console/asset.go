package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file that browsers keep for ever: its name has its hash, so another version has another name.
type asset struct {
	name, kind string
	content    []byte
}

// assets are all of them by the name in their URL, and names finds that of a file.
var assets, assetNames = readAssets()

func readAssets() (map[string]asset, map[string]string) {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all, names := map[string]asset{}, map[string]string{}
	files, err := fs.ReadDir(assetFiles, "assets")
	if err != nil {
		panic("dserver: " + err.Error()) // it is compiled in
	}
	for _, file := range files {
		content, err := assetFiles.ReadFile("assets/" + file.Name())
		if err != nil {
			panic("dserver: " + err.Error())
		}
		hash := sha256.Sum256(content)
		ext := path.Ext(file.Name())
		name := strings.TrimSuffix(file.Name(), ext) + "." + hex.EncodeToString(hash[:6]) + ext
		all[name], names[file.Name()] = asset{name, kinds[ext], content}, name
	}
	return all, names
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	a, found := assets[r.PathValue("file")]
	if !found {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("ETag", `"`+a.name+`"`)
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.content))
}
