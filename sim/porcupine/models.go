package main

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

var models = map[string]porcupine.Model{
	"register": {
		Init: func() any { return register{} },
		Step: stepRegister,
	},
	"list": {
		Init:  func() any { return lists{} },
		Step:  stepLists,
		Equal: func(a, b any) bool { return equalLists(a.(lists), b.(lists)) },
	},
}

// register is a counter that knows who wrote it last, and whom that one replaced.
type register struct {
	value         int64
	tag, replaced uint64
}

func stepRegister(state, input, _ any) (bool, any) {
	held := state.(register)
	for _, step := range input.([]step) {
		switch step.Do {
		case "increment":
			held = register{value: held.value + 1, tag: step.Tag, replaced: held.tag}
			if step.Value != nil && *step.Value != held.value || step.Replaced != nil && *step.Replaced != held.replaced {
				return false, nil
			}
		case "read":
			if *step.Value != held.value || step.Tag != held.tag || *step.Replaced != held.replaced {
				return false, nil
			}
		default:
			panic("no step of a register: " + step.Do)
		}
	}
	return true, held
}

// lists are lists that only grow, by key. Never changed: a step that changes them returns others.
type lists map[uint64][]uint64

func stepLists(state, input, _ any) (bool, any) {
	held := state.(lists)
	owned := false
	for _, step := range input.([]step) {
		switch step.Do {
		case "append":
			if !owned {
				held, owned = copyOf(held), true
			}
			// A new array: other states may share the old one.
			held[step.Key] = append(slices.Clip(held[step.Key]), step.Element)
		case "read":
			if step.Elements != nil && !slices.Equal(step.Elements, held[step.Key]) {
				return false, nil
			}
		default:
			panic("no step of lists: " + step.Do)
		}
	}
	return true, held
}

func copyOf(held lists) lists {
	copied := make(lists, len(held)+1)
	for key, list := range held {
		copied[key] = list
	}
	return copied
}

func equalLists(a, b lists) bool {
	if len(a) != len(b) {
		return false
	}
	for key, list := range a {
		if !slices.Equal(list, b[key]) {
			return false
		}
	}
	return true
}
