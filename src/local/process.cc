#include "local/process.h"

#include <sys/wait.h>

#include <charconv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

namespace nbos::local {
namespace {

struct Stat {
    char state = 0;
    pid_t parent = 0;
    std::uint64_t start = 0;
};

// The command in parentheses may hold anything, parentheses and spaces too: read after the last.
std::optional<Stat> read_stat(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;  // empty when the process ends while it is read
    std::getline(file, text, '\0');
    const auto end = text.rfind(')');
    if (end == std::string::npos) {
        return std::nullopt;
    }
    std::istringstream fields(text.substr(end + 1));
    Stat stat;
    fields >> stat.state >> stat.parent;
    std::string skipped;
    constexpr int kBetweenParentAndStart = 17;
    for (int i = 0; i < kBetweenParentAndStart; ++i) {
        fields >> skipped;
    }
    fields >> stat.start;
    return fields ? std::optional(stat) : std::nullopt;
}

std::multimap<pid_t, ProcessId> children_by_parent() {
    std::multimap<pid_t, ProcessId> found;
    std::error_code ignored;
    std::filesystem::directory_iterator entry("/proc", ignored);
    for (; entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
        const std::string name = entry->path().filename();
        pid_t pid = 0;
        const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) {
            continue;
        }
        if (const auto stat = read_stat(pid); stat && stat->state != 'Z') {
            found.emplace(stat->parent, ProcessId{pid, stat->start});
        }
    }
    return found;
}

// The kernel ends a pid namespace with its init.
bool is_namespace_init(pid_t pid) {
    std::error_code failed;
    const auto own = std::filesystem::read_symlink("/proc/self/ns/pid", failed);
    const auto its =
        std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/ns/pid", failed);
    return !failed && own != its;
}

}  // namespace

ProcessId identify(pid_t pid) {
    const auto stat = read_stat(pid);
    return {pid, stat ? stat->start : 0};
}

bool is_alive(const ProcessId& process) {
    const auto stat = read_stat(process.pid);
    return process.pid > 0 && stat && stat->start == process.start && stat->state != 'Z';
}

void send_signal(const ProcessId& process, int signal) {
    if (is_alive(process)) {
        kill(process.pid, signal);
    }
}

std::vector<ProcessId> descendants(const ProcessId& process) {
    const auto children = children_by_parent();
    std::vector<ProcessId> found;
    std::vector<pid_t> next{process.pid};
    while (!next.empty()) {
        const pid_t parent = next.back();
        next.pop_back();
        const auto [begin, end] = children.equal_range(parent);
        for (auto child = begin; child != end; ++child) {
            found.push_back(child->second);
            next.push_back(child->second.pid);
        }
    }
    return found;
}

void kill_tree(const ProcessId& process) {
    if (!is_alive(process)) {
        return;
    }
    if (is_namespace_init(process.pid)) {
        kill(process.pid, SIGKILL);
        return;
    }
    // Stopped, it can neither react nor fork; a killed child's own children come to it and are
    // found in the next round. A fork bomb could outrun this; the rounds are bounded.
    constexpr int kRoundsMax = 100;
    kill(process.pid, SIGSTOP);
    for (int round = 0; round < kRoundsMax; ++round) {
        const auto below = descendants(process);
        if (below.empty()) {
            break;
        }
        for (const auto& child : below) {
            kill(child.pid, SIGKILL);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    kill(process.pid, SIGKILL);
}

bool wait_until_gone(const ProcessId& process, std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (is_alive(process)) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

}  // namespace nbos::local
