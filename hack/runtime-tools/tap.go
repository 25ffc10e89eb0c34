// Package tap prints test points in the Test Anything Protocol.
//
// Debian has no package of github.com/mndrix/tap-go. This package has the functions that the
// runtime-tools programs call. hack/validate reads its output.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T is a stream of numbered points. Nil as its Writer is standard output.
type T struct {
	Writer io.Writer

	number  int
	planned bool
	todo    *T // the stream that points not expected to pass are printed to
}

// New begins a stream on standard output.
func New() *T { return new(T) }

// Header prints the version, and the plan when the number of points is known.
func (t *T) Header(points int) {
	t.line("TAP version 13")
	if points > 0 {
		t.plan(points)
	}
}

// AutoPlan ends a stream with the number of points that it had, unless that was said at the start.
func (t *T) AutoPlan() {
	if !t.planned {
		t.plan(t.number)
	}
}

// Todo is the same stream for points that are not expected to pass.
func (t *T) Todo() *T { return &T{Writer: t.Writer, todo: t} }

// Ok is a point that passes if so.
func (t *T) Ok(so bool, what string) {
	if so {
		t.Pass(what)
	} else {
		t.Fail(what)
	}
}

// Pass is a point that passes.
func (t *T) Pass(what string) { t.point("ok", "- "+what) }

// Fail is a point that fails.
func (t *T) Fail(what string) { t.point("not ok", "- "+what) }

// Skip is a number of points that were not looked at.
func (t *T) Skip(points int, why string) {
	for ; points > 0; points-- {
		t.point("ok", "# SKIP "+why)
	}
}

// Diagnostic is a remark.
func (t *T) Diagnostic(remark string) {
	t.line("# " + strings.ReplaceAll(strings.TrimSpace(remark), "\n", "\n# "))
}

// Diagnosticf is a remark with values in it.
func (t *T) Diagnosticf(format string, values ...interface{}) { t.Diagnostic(fmt.Sprintf(format, values...)) }

// YAML tells more of the last point; JSON is YAML.
func (t *T) YAML(more interface{}) error {
	text, err := json.MarshalIndent(more, "  ", "  ")
	if err != nil {
		return err
	}
	t.line("  ---\n  " + string(text) + "\n  ...")
	return nil
}

func (t *T) plan(points int) {
	t.planned = true
	t.line(fmt.Sprintf("1..%d", points))
}

func (t *T) point(verdict, text string) {
	if t.todo != nil {
		t.todo.point(verdict, "# TODO "+text)
		return
	}
	t.number++
	t.line(fmt.Sprintf("%s %d %s", verdict, t.number, strings.ReplaceAll(text, "\n", " ")))
}

func (t *T) line(text string) {
	if t.todo != nil {
		t = t.todo
	}
	if t.Writer == nil {
		t.Writer = os.Stdout
	}
	fmt.Fprintln(t.Writer, text)
}
