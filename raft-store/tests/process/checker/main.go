// Judges a history of operations on keys: is it linearizable? Porcupine does the search, one key at a time.
//
//	checker FILE [SECONDS]
//
// A line of the file is one operation, fields parted by tabs:
//
//	client key operation expected value call return result revision
//
// operation: get, put, put-if, delete, delete-if; expected: the revision a conditioned write asks for, 0 for absence;
// value: what was written, or what a get found; call and return in nanoseconds, return -1 for an operation whose end
// nobody knows: it may have taken effect at any time after its call, or never; result: value, none, written, conflict,
// or unknown. Every value is written once in the whole history.
//
// Prints one line, and exits with 0 if the history is linearizable, 1 if not, 2 if that could not be found out.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

type input struct {
	operation string
	expected  int64
	value     string
}

type output struct {
	result   string
	revision int64
	value    string
}

// What is under a key. A revision of 0 under a value: it was written by an operation whose end nobody knows.
type state struct {
	present  bool
	value    string
	revision int64
	// No later write may have a revision that is not above.
	floor int64
}

func max(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

func (s state) written(value string, revision int64) state {
	return state{true, value, revision, max(s.floor, revision)}
}

func (s state) removed(revision int64) state {
	return state{false, "", 0, max(s.floor, revision)}
}

// A revision that a client knows was read before, so it is never that of a write whose end nobody knows.
func (s state) holds(expected int64) bool {
	if expected == 0 {
		return !s.present
	}
	return s.present && s.revision == expected
}

func step(from, in, out interface{}) (bool, interface{}) {
	s, i, o := from.(state), in.(input), out.(output)
	conditioned := i.operation == "put-if" || i.operation == "delete-if"
	writes := !conditioned || s.holds(i.expected)
	switch {
	case i.operation == "get" && o.result == "none":
		return !s.present, s
	case i.operation == "get":
		if !s.present || s.value != o.value {
			return false, s
		}
		if s.revision == 0 && o.revision > s.floor {
			return true, s.written(s.value, o.revision)
		}
		return s.revision == o.revision, s
	case o.result == "conflict":
		return !writes, s
	case o.result == "unknown" && !writes:
		return true, s
	case o.result == "unknown" && (i.operation == "put" || i.operation == "put-if"):
		return true, state{true, i.value, 0, s.floor}
	case o.result == "unknown":
		return true, s.removed(s.floor)
	case i.operation == "put" || i.operation == "put-if":
		return writes && o.revision > s.floor, s.written(i.value, o.revision)
	case !s.present:
		// Nothing was there: the answer is the store's revision.
		return writes && o.revision >= s.floor, s.removed(o.revision)
	default:
		return writes && o.revision > s.floor, s.removed(o.revision)
	}
}

var model = porcupine.Model{
	Init: func() interface{} { return state{} },
	Step: step,
	DescribeOperation: func(in, out interface{}) string {
		return fmt.Sprintf("%+v -> %+v", in, out)
	},
}

func fail(format string, arguments ...interface{}) {
	fmt.Printf("cannot tell: "+format+"\n", arguments...)
	os.Exit(2)
}

func read(path string) map[string][]porcupine.Operation {
	file, err := os.Open(path)
	if err != nil {
		fail("%v", err)
	}
	defer file.Close()
	keys := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 9 {
			fail("line %d has %d fields", number, len(fields))
		}
		numbers := [5]int64{}
		for at, field := range []int{0, 3, 5, 6, 8} {
			numbers[at], err = strconv.ParseInt(fields[field], 10, 64)
			if err != nil {
				fail("line %d: %v", number, err)
			}
		}
		operation := porcupine.Operation{
			ClientId: int(numbers[0]),
			Input:    input{fields[2], numbers[1], fields[4]},
			Call:     numbers[2],
			Output:   output{fields[7], numbers[4], fields[4]},
			Return:   numbers[3],
		}
		if operation.Return < 0 {
			operation.Return = math.MaxInt64
		}
		keys[fields[1]] = append(keys[fields[1]], operation)
	}
	if lines.Err() != nil {
		fail("%v", lines.Err())
	}
	return keys
}

// What a read tells of a write whose end nobody knows: it was done, with this revision, before the read returned.
func observed(operations []porcupine.Operation) (known []porcupine.Operation, unseen []porcupine.Operation) {
	type sight struct{ revision, before int64 }
	seen := map[string]sight{}
	for _, operation := range operations {
		in, out := operation.Input.(input), operation.Output.(output)
		if in.operation == "get" && out.result == "value" {
			first, ok := seen[out.value]
			if !ok || operation.Return < first.before {
				seen[out.value] = sight{out.revision, operation.Return}
			}
		}
	}
	for _, operation := range operations {
		in, out := operation.Input.(input), operation.Output.(output)
		if out.result != "unknown" {
			known = append(known, operation)
			continue
		}
		first, ok := seen[in.value]
		if ok && (in.operation == "put" || in.operation == "put-if") {
			operation.Output = output{"written", first.revision, in.value}
			operation.Return = max(operation.Call, first.before)
			known = append(known, operation)
		} else {
			unseen = append(unseen, operation)
		}
	}
	return known, unseen
}

// First without the writes that nobody knows of nor saw: if that is linearizable, it is with them at the very end too.
func check(operations []porcupine.Operation, limit time.Duration) porcupine.CheckResult {
	known, unseen := observed(operations)
	result := porcupine.CheckOperationsTimeout(model, known, limit)
	if result == porcupine.Ok || len(unseen) == 0 {
		return result
	}
	return porcupine.CheckOperationsTimeout(model, append(known, unseen...), limit)
}

// Revisions count in the whole store: a write begun after another was acknowledged has the higher one, whatever their
// keys. Returns a pair that has not.
func disorder(keys map[string][]porcupine.Operation) string {
	type write struct {
		at, revision int64
		key          string
	}
	var calls, returns []write
	for key, operations := range keys {
		for _, operation := range operations {
			out := operation.Output.(output)
			if out.result == "written" && strings.HasPrefix(operation.Input.(input).operation, "put") {
				calls = append(calls, write{operation.Call, out.revision, key})
				returns = append(returns, write{operation.Return, out.revision, key})
			}
		}
	}
	sort.Slice(calls, func(a, b int) bool { return calls[a].at < calls[b].at })
	sort.Slice(returns, func(a, b int) bool { return returns[a].at < returns[b].at })
	highest, next := write{}, 0
	for _, call := range calls {
		for ; next < len(returns) && returns[next].at < call.at; next++ {
			if returns[next].revision > highest.revision {
				highest = returns[next]
			}
		}
		if call.revision <= highest.revision {
			return fmt.Sprintf("%s at revision %d began after %s at %d was acknowledged",
				call.key, call.revision, highest.key, highest.revision)
		}
	}
	return ""
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: checker FILE [SECONDS]")
	}
	limit := 60 * time.Second
	if len(os.Args) > 2 {
		seconds, err := strconv.Atoi(os.Args[2])
		if err != nil {
			fail("%v", err)
		}
		limit = time.Duration(seconds) * time.Second
	}
	keys := read(os.Args[1])
	operations, names := 0, []string{}
	for key, of := range keys {
		operations += len(of)
		names = append(names, key)
	}
	sort.Strings(names)
	if wrong := disorder(keys); wrong != "" {
		fmt.Println("not linearizable:", wrong)
		os.Exit(1)
	}
	var unknown []string
	for _, key := range names {
		switch check(keys[key], limit) {
		case porcupine.Illegal:
			fmt.Printf("not linearizable: key %s, %d operations\n", key, len(keys[key]))
			os.Exit(1)
		case porcupine.Unknown:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		fail("%d of %d keys in %v: %v", len(unknown), len(keys), limit, unknown)
	}
	fmt.Printf("linearizable: %d operations on %d keys\n", operations, len(keys))
}
