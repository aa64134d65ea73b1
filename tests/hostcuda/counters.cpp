/* Counts the memory traffic of kernels as a profiler does, from the accesses that the checker sees.
 *
 * The accesses that the lanes of a warp make at one place of the source, for the k-th time each, are one request. A
 * request for global memory moves the 32-byte sectors that it touches, whatever a cache may know. A request for shared
 * memory takes as many waves as the fullest of 32 banks of 4 bytes has different words, in parts of 8 bytes a lane for
 * 16 lanes and 16 bytes for 8. */
#include "runtime.h"

#include <algorithm>
#include <map>
#include <stdio.h>
#include <string.h>
#include <string>
#include <unordered_map>
#include <vector>

namespace hostcuda
{

struct Request {
    uint32_t lanes;
    uint32_t bytes; /* of a lane */
    bool shared;
    uintptr_t at[32];
};

static bool counting;
static std::map<std::string, hostcuda_traffic> traffic;
static std::unordered_map<uint64_t, Request> requests; /* of the running block, by place, warp and turn */
static std::unordered_map<uint64_t, uint32_t> turns;   /* by place and thread */

void count_access(uintptr_t address, size_t bytes, Access access, bool shared, const void *caller)
{
    if (!counting) return;
    const uint64_t place = reinterpret_cast<uintptr_t>(caller) & 0xffffffffu;
    const uint32_t turn = turns[place << 11 | static_cast<uint64_t>(current->id) << 1 | (access == WRITE)]++;
    Request &request = requests[(place << 5 | static_cast<uint64_t>(current->warp)) << 27 |
                                static_cast<uint64_t>(turn & 0x3ffffff) << 1 | (access == WRITE)];
    request.lanes |= 1u << current->lane;
    request.bytes = static_cast<uint32_t>(bytes);
    request.shared = shared;
    request.at[current->lane] = address;
}

static uint64_t sectors_of(const Request &request)
{
    std::vector<uintptr_t> sectors;
    for (int l = 0; l < 32; l++) {
        if (!(request.lanes >> l & 1)) continue;
        for (uintptr_t s = request.at[l] / 32; s <= (request.at[l] + request.bytes - 1) / 32; s++) sectors.push_back(s);
    }
    std::sort(sectors.begin(), sectors.end());
    return static_cast<uint64_t>(std::unique(sectors.begin(), sectors.end()) - sectors.begin());
}

static void add_shared(const Request &request, hostcuda_traffic &sum)
{
    const int lanes = request.bytes <= 4 ? 32 : request.bytes == 8 ? 16 : 8;
    for (int first = 0; first < 32; first += lanes) {
        std::vector<uintptr_t> words[32];
        size_t waves = 0;
        for (int l = first; l < first + lanes; l++) {
            if (!(request.lanes >> l & 1)) continue;
            for (uintptr_t w = request.at[l] / 4; w <= (request.at[l] + request.bytes - 1) / 4; w++) {
                std::vector<uintptr_t> &bank = words[w % 32];
                if (std::find(bank.begin(), bank.end(), w) == bank.end()) bank.push_back(w);
                waves = std::max(waves, bank.size());
            }
        }
        sum.shared_requests += waves > 0;
        sum.shared_waves += waves;
    }
}

void count_block()
{
    if (!counting) return;
    hostcuda_traffic &sum = traffic[kernel_name];
    for (const auto &entry : requests) {
        if (entry.second.shared) {
            add_shared(entry.second, sum);
        } else {
            sum.requests++;
            sum.sectors += sectors_of(entry.second);
        }
    }
    requests.clear();
    turns.clear();
}

} // namespace hostcuda

using namespace hostcuda;

extern "C" {
void hostcuda_count_traffic(int on) { counting = on != 0; }
void hostcuda_forget_traffic(void) { traffic.clear(); }
hostcuda_traffic hostcuda_traffic_of(const char *kernel)
{
    hostcuda_traffic sum = {};
    for (const auto &entry : traffic) {
        if (entry.first.find(kernel) == std::string::npos) continue;
        sum.requests += entry.second.requests;
        sum.sectors += entry.second.sectors;
        sum.shared_requests += entry.second.shared_requests;
        sum.shared_waves += entry.second.shared_waves;
    }
    return sum;
}
void hostcuda_print_traffic(void)
{
    for (const auto &entry : traffic)
        (void)printf("%-90.90s %9llu requests %10llu sectors, shared %9llu requests %9llu waves\n", entry.first.c_str(),
                     static_cast<unsigned long long>(entry.second.requests),
                     static_cast<unsigned long long>(entry.second.sectors),
                     static_cast<unsigned long long>(entry.second.shared_requests),
                     static_cast<unsigned long long>(entry.second.shared_waves));
}
}
