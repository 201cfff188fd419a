package main

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

func number[T any](value T) *T { return &value }

func ended(call, returned int64, steps ...step) operation {
	return operation{Call: call, Return: &returned, Known: true, Steps: steps}
}

func verdict(model string, operations ...operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(models[model], history(operations), patience)
}

func incremented(tag uint64, value int64, replaced uint64) step {
	return step{Do: "increment", Tag: tag, Value: number(value), Replaced: number(replaced)}
}

func found(value int64, tag, replaced uint64) step {
	return step{Do: "read", Tag: tag, Value: number(value), Replaced: number(replaced)}
}

func TestAStaleReadHasNoOrder(t *testing.T) {
	write := ended(1, 2, incremented(7, 1, 0))
	if verdict("register", write, ended(3, 4, found(1, 7, 0))) != porcupine.Ok {
		t.Error("a read of what was written")
	}
	if verdict("register", write, ended(3, 4, found(0, 0, 0))) != porcupine.Illegal {
		t.Error("a read of what was there before")
	}
}

func TestALostUpdateHasNoOrder(t *testing.T) {
	if verdict("register", ended(1, 4, incremented(7, 1, 0)), ended(2, 3, incremented(8, 1, 0))) != porcupine.Illegal {
		t.Error("two that replaced the same")
	}
}

func TestAnUnknownWriteMayHaveHappenedOrNot(t *testing.T) {
	unknown := operation{Call: 1, Steps: []step{{Do: "increment", Tag: 7}}}
	if verdict("register", unknown, ended(3, 4, found(0, 0, 0))) != porcupine.Ok {
		t.Error("it did not")
	}
	if verdict("register", unknown, ended(3, 4, found(1, 7, 0))) != porcupine.Ok {
		t.Error("it did")
	}
	if verdict("register", unknown, ended(3, 4, found(1, 7, 0)), ended(5, 6, found(0, 0, 0))) != porcupine.Illegal {
		t.Error("it did, and then did not")
	}
	if returned := history([]operation{unknown, ended(3, 4, found(1, 7, 0))})[0].Return; returned != math.MaxInt64 {
		t.Error("it returned", returned)
	}
}

func TestTransactionsOverListsAreWhole(t *testing.T) {
	both := ended(1, 2, step{Do: "append", Key: 1, Element: 5}, step{Do: "append", Key: 2, Element: 6})
	half := ended(1, 2, step{Do: "read", Key: 1, Elements: []uint64{5}}, step{Do: "read", Key: 2, Elements: []uint64{}})
	whole := ended(3, 4, step{Do: "read", Key: 1, Elements: []uint64{5}}, step{Do: "read", Key: 2, Elements: []uint64{6}})
	if verdict("list", both, whole) != porcupine.Ok {
		t.Error("all of it")
	}
	if verdict("list", both, half) != porcupine.Illegal {
		t.Error("one half of it")
	}
}
