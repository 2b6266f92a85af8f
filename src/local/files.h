// Small files that must be whole or absent: settings, tokens, records.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace nbos::local {

// nullopt when there is no such file. kIo with the path and the reason.
Result<std::optional<std::string>> read_small_file(const std::filesystem::path& path);
// Written beside it, synced and renamed over it.
Status write_small_file(const std::filesystem::path& path, std::string_view text, mode_t mode);
// With its parents; mode 0700. What to do is in the error.
Status make_private_directory(const std::filesystem::path& path);
// Fails, saying what to do, when less than `bytes` are free where `path` is.
Status require_free_space(const std::filesystem::path& path, std::uint64_t bytes);
// The last lines of a log, for people; at most 16 KiB of it.
std::string last_lines(const std::filesystem::path& path, std::size_t lines,
                       std::uintmax_t from = 0);  // nothing before this byte

}  // namespace nbos::local
