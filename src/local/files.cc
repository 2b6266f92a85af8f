#include "local/files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace nbos::local {
namespace {

Error io_error(std::string_view what, const std::filesystem::path& path, int code) {
    return {Errc::kIo, Certainty::kDidNotHappen,
            // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
            fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(code))};
}

bool write_all(int file, std::string_view text) {
    while (!text.empty()) {
        const auto written = write(file, text.data(), text.size());
        if (written < 0) {
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return fdatasync(file) == 0;
}

// Up to the end, or to the first error, after which `file` is bad: iterators over the buffer would
// throw.
std::string rest_of(std::ifstream& file) {
    std::string text;
    std::array<char, 4096> part{};
    while (file.good()) {
        file.read(part.data(), part.size());
        text.append(part.data(), static_cast<std::size_t>(file.gcount()));
    }
    return text;
}

}  // namespace

Result<std::optional<std::string>> read_small_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        if (errno == ENOENT) {
            return std::optional<std::string>();
        }
        return io_error("read", path, errno);
    }
    auto text = rest_of(file);
    if (file.bad()) {
        return io_error("read", path, errno);
    }
    return std::optional(std::move(text));
}

Status write_small_file(const std::filesystem::path& path, std::string_view text, mode_t mode) {
    const std::filesystem::path draft = path.string() + ".new";
    const int file = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (file < 0) {
        return io_error("write", path, errno);
    }
    const bool written = write_all(file, text) && fchmod(file, mode) == 0;
    const int code = errno;
    close(file);
    if (!written) {
        return io_error("write", path, code);
    }
    if (rename(draft.c_str(), path.c_str()) != 0) {
        return io_error("write", path, errno);
    }
    return ok();
}

Status make_private_directory(const std::filesystem::path& path) {
    std::error_code failed;
    std::filesystem::create_directories(path, failed);
    if (failed) {
        return io_error("create the directory", path, failed.value());
    }
    std::filesystem::permissions(path, std::filesystem::perms::owner_all, failed);
    if (failed || access(path.c_str(), W_OK) != 0) {
        return io_error("write into the directory", path, failed ? failed.value() : errno);
    }
    return ok();
}

Status require_free_space(const std::filesystem::path& path, std::uint64_t bytes) {
    std::error_code failed;
    const auto space = std::filesystem::space(path, failed);
    if (failed) {
        return io_error("see how much space is free at", path, failed.value());
    }
    if (space.available < bytes) {
        constexpr std::uint64_t kMiB = 1U << 20U;
        return Error{Errc::kExhausted, Certainty::kDidNotHappen,
                     fmt::format("only {} MiB are free at {}, and {} MiB are needed. Free some "
                                 "space, or keep the data elsewhere with --data DIR.",
                                 space.available / kMiB, path.string(), bytes / kMiB)};
    }
    return ok();
}

std::string last_lines(const std::filesystem::path& path, std::size_t lines, std::uintmax_t from) {
    constexpr std::streamoff kTailBytes = 16384;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) {
        return {};
    }
    file.seekg(std::max(static_cast<std::streamoff>(from),
                        static_cast<std::streamoff>(file.tellg()) - kTailBytes));
    auto text = rest_of(file);
    while (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    auto begin = text.size();
    for (std::size_t i = 0; i < lines && begin != 0 && begin != std::string::npos; ++i) {
        begin = text.rfind('\n', begin - 1);
    }
    return begin == std::string::npos || begin == 0 ? text : text.substr(begin + 1);
}

}  // namespace nbos::local
