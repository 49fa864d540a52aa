// SPDX-License-Identifier: MIT
//
// A C++ program whose variables change a known number of times: accounts THREADS TIMES
//   bank::Account::opened     once an account, by the main thread: 3
//   bank::total               by each deposit, in all threads (atomic): THREADS * TIMES
//   bank::state               CLOSED, OPEN, BUSY, OPEN, CLOSED
//   main's ledger.balance     once a deposit into it, by the main thread: TIMES
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bank {
enum class State { CLOSED, OPEN, BUSY };
State state = State::CLOSED;
std::atomic<long> total{0};

class Account {
  public:
    static int opened;
    explicit Account(std::string name) : name_(std::move(name)) { opened++; }
    void deposit(long amount)
    {
        if (amount <= 0)
            throw std::invalid_argument(name_);
        balance_ += amount;
        total += amount;
    }

  private:
    std::string name_;
    long balance_ = 0;
};
int Account::opened;

struct Ledger {
    const char *title;
    long balance;
    template <typename T> __attribute__((noinline)) void add(T amount) { balance += amount; }
};
Ledger ledger = {"main", 0};

__attribute__((noinline)) void enter(State next)
{
    state = next;
}
} // namespace bank

int main(int argc, char **argv)
{
    using namespace bank;
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const long times = argc > 2 ? atol(argv[2]) : 1;
    enter(State::OPEN);
    std::vector<Account> accounts;
    accounts.reserve(3);
    for (const char *name : {"a", "b", "c"})
        accounts.emplace_back(name);
    enter(State::BUSY);
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; i++)
        workers.emplace_back([&, i] {
            Account own = accounts[static_cast<size_t>(i) % 3];
            for (long n = 0; n < times; n++)
                own.deposit(1);
        });
    for (long n = 1; n <= times; n++)
        ledger.add(n);
    for (auto &worker : workers)
        worker.join();
    int refused = 0;
    for (int n = 0; n < 10; n++)
        try {
            accounts[0].deposit(-n);
        } catch (const std::invalid_argument &) {
            refused++;
        }
    enter(State::OPEN);
    enter(State::CLOSED);
    std::printf("%d opened, %ld in all, %ld in the ledger, %d refused\n", Account::opened, total.load(), ledger.balance,
                refused);
}
