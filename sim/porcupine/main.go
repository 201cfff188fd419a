// Judges histories that `halite-sim --export-history FILE` wrote, with porcupine, which shares no code with sim/checks.
//
//	go run . FILE...
//
// Prints one line for each file. Exit code 0: every object has an order; 1: some has none; 2: a file cannot be read.
// An object whose search takes too long is told as undecided and does not count as wrong.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Longest search for one object.
const patience = 60 * time.Second

// Longest line: a read of all lists.
const lineBytesMax = 64 << 20

// step is one thing that an operation does. Pointers are nil where the answer is not known.
type step struct {
	Do       string   `json:"do"`
	Tag      uint64   `json:"tag"`
	Value    *int64   `json:"value"`
	Replaced *uint64  `json:"replaced"`
	Key      uint64   `json:"key"`
	Element  uint64   `json:"element"`
	Elements []uint64 `json:"elements"`
}

// operation is one line of a file.
type operation struct {
	Model  string `json:"model"`
	Object string `json:"object"`
	Client int    `json:"client"`
	Call   int64  `json:"call"`
	Return *int64 `json:"return"`
	Known  bool   `json:"known"`
	Steps  []step `json:"steps"`
}

func main() {
	code := 0
	for _, file := range os.Args[1:] {
		objects, err := read(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if !judge(file, objects) {
			code = 1
		}
	}
	os.Exit(code)
}

func read(file string) (map[string][]operation, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	lines := bufio.NewScanner(opened)
	lines.Buffer(nil, lineBytesMax)
	objects := map[string][]operation{}
	for number := 1; lines.Scan(); number++ {
		var found operation
		if err := json.Unmarshal(lines.Bytes(), &found); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		name := found.Model + " " + found.Object
		objects[name] = append(objects[name], found)
	}
	return objects, lines.Err()
}

func judge(file string, objects map[string][]operation) bool {
	verdicts := map[porcupine.CheckResult]int{}
	count := 0
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		operations := objects[name]
		model, known := models[operations[0].Model]
		if !known {
			fmt.Fprintf(os.Stderr, "%s: there is no model %q\n", file, operations[0].Model)
			os.Exit(2)
		}
		history := history(operations)
		verdict := porcupine.CheckOperationsTimeout(model, history, patience)
		if verdict == porcupine.Illegal {
			fmt.Printf("%s: no order explains %s\n", file, name)
		}
		verdicts[verdict]++
		count += len(history)
	}
	fmt.Printf("%s: objects=%d operations=%d legal=%d illegal=%d undecided=%d\n", file, len(objects), count,
		verdicts[porcupine.Ok], verdicts[porcupine.Illegal], verdicts[porcupine.Unknown])
	return verdicts[porcupine.Illegal] == 0
}

// history leaves out what nobody can tell from what never happened: operations of unknown outcome whose effect nobody saw.
func history(operations []operation) []porcupine.Operation {
	seen := map[uint64]bool{}
	for _, done := range operations {
		for _, step := range done.Steps {
			if step.Do == "read" {
				seen[step.Tag] = true
			}
			if step.Replaced != nil {
				seen[*step.Replaced] = true
			}
			for _, element := range step.Elements {
				seen[element] = true
			}
		}
	}
	isSeen := func(step step) bool {
		return step.Do == "increment" && seen[step.Tag] || step.Do == "append" && seen[step.Element]
	}
	var history []porcupine.Operation
	for _, done := range operations {
		if !done.Known && !slices.ContainsFunc(done.Steps, isSeen) {
			continue
		}
		returned := int64(math.MaxInt64)
		if done.Return != nil {
			returned = *done.Return
		}
		history = append(history, porcupine.Operation{
			ClientId: done.Client,
			Input:    done.Steps,
			Call:     done.Call,
			Return:   returned,
		})
	}
	return history
}
