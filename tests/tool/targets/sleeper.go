// SPDX-License-Identifier: MIT

// Goroutines that compute on small stacks which grow, sleep, and notice when a result is wrong.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

var wrong, rounds int64

//go:noinline
func work(x int64) int64 { return x*3 + 1 }

//go:noinline
func deep(n int) int64 {
	var room [64]int64
	room[n%64] = int64(n)
	if n == 0 {
		return room[0]
	}
	return deep(n-1) + room[n%64]
}

func compute() {
	for {
		var sum int64
		for i := int64(0); i < 1000; i++ {
			sum += work(i)
		}
		done := make(chan int64)
		go func() { done <- deep(200) }()
		if sum != 1499500 || <-done != 20100 {
			atomic.AddInt64(&wrong, 1)
		}
		begun := time.Now()
		time.Sleep(2 * time.Millisecond)
		if time.Since(begun) < 2*time.Millisecond {
			atomic.AddInt64(&wrong, 1)
		}
		atomic.AddInt64(&rounds, 1)
	}
}

func main() {
	for i := 0; i < 16; i++ {
		go compute()
	}
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		for before := atomic.LoadInt64(&rounds); atomic.LoadInt64(&rounds) < before+64; {
			time.Sleep(time.Millisecond)
		}
		fmt.Println(atomic.LoadInt64(&wrong), "wrong")
	}
}
