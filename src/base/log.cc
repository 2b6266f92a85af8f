#include "base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <string>

namespace nbos {
namespace {

std::atomic<LogLevel> level_min{LogLevel::kInfo};

std::string& process_name() {
    static std::string name;
    return name;
}

}  // namespace

void set_log_level(LogLevel level) { level_min.store(level); }
void set_log_name(std::string_view process) { process_name() = process; }

void log_line(LogLevel level, std::string_view component, std::string_view message) {
    if (level < level_min.load()) {
        return;
    }
    static constexpr std::array<const char*, 4> kNames{"DEBUG", "INFO ", "WARN ", "ERROR"};
    const auto now = std::chrono::system_clock::now();
    const auto seconds = std::chrono::system_clock::to_time_t(now);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    const std::string line = fmt::format(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z {} {} {}: {}\n", utc.tm_year + 1900,
        utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms.count() % 1000,
        kNames[static_cast<std::size_t>(level)], process_name(), component, message);
    // Nowhere to report a failed log write to.
    [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace nbos
