// Puts into etcd, so many in flight for so long: client IN-FLIGHT SECONDS ADDRESS,ADDRESS,...
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	inFlight, _ := strconv.Atoi(os.Args[1])
	seconds, _ := strconv.Atoi(os.Args[2])
	addresses := strings.Split(os.Args[3], ",")
	if inFlight == 1 {
		addresses = addresses[:1]
	}
	var clients []*clientv3.Client
	for _, address := range addresses {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 20 * time.Second})
		if err != nil {
			panic(err)
		}
		clients = append(clients, client)
	}
	value := strings.Repeat("Z", 67)
	put := func(client *clientv3.Client, number int) time.Duration {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		if _, err := client.Put(ctx, fmt.Sprintf("session/%025d", number%100000), value); err != nil {
			panic(err)
		}
		return time.Since(began)
	}
	run := func(length time.Duration) ([]time.Duration, time.Duration) {
		var all []time.Duration
		var lock sync.Mutex
		var done sync.WaitGroup
		began := time.Now()
		for caller := 0; caller < inFlight; caller++ {
			done.Add(1)
			go func(caller int) {
				defer done.Done()
				var each []time.Duration
				for number := caller * 7919; time.Since(began) < length; number += 104729 {
					each = append(each, put(clients[caller%len(clients)], number))
				}
				lock.Lock()
				all = append(all, each...)
				lock.Unlock()
			}(caller)
		}
		done.Wait()
		return all, time.Since(began)
	}
	// The first waits for the cluster.
	run(2 * time.Second)
	all, took := run(time.Duration(seconds) * time.Second)
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	at := func(percent int) float64 { return float64(all[len(all)*percent/100].Microseconds()) / 1000 }
	fmt.Printf("%-28s %10.0f/s   p50 %7.3f ms   p99 %7.3f ms\n",
		fmt.Sprintf("%d in flight", inFlight), float64(len(all))/took.Seconds(), at(50), at(99))
}
