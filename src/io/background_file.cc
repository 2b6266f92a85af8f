#include "io/background_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace nbos::io {
namespace {

bool write_all(int file, const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto written = ::write(file, text.data() + at, text.size() - at);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        at += written < 0 ? 0 : static_cast<std::size_t>(written);
    }
    return true;
}

}  // namespace

Status replace_file(const std::string& path, const std::string& text) {
    const std::string draft = path + ".new";
    const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = file >= 0 && write_all(file, text) && ::fsync(file) == 0;
    int why = errno;
    if (file >= 0) {
        ::close(file);
    }
    if (good && ::rename(draft.c_str(), path.c_str()) != 0) {
        good = false;
        why = errno;
    }
    if (!good) {
        return Error{Errc::kIo, Certainty::kUnknown,
                     "cannot write " + path + ": " + std::generic_category().message(why)};
    }
    return ok();
}

BackgroundFile::BackgroundFile(std::string path)
    : path_(std::move(path)), writer_([this] { run(); }) {}

BackgroundFile::~BackgroundFile() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_one();
    writer_.join();
}

void BackgroundFile::save(std::string text) {
    {
        const std::lock_guard lock(mutex_);
        waiting_ = std::move(text);
    }
    changed_.notify_one();
}

void BackgroundFile::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return stopping_ || waiting_.has_value(); });
        if (!waiting_) {
            return;
        }
        const auto text = std::move(*waiting_);
        waiting_.reset();
        lock.unlock();
        if (const auto written = replace_file(path_, text); !written) {
            log_error("io", "{}", written.error().what);
        }
        lock.lock();
    }
}

}  // namespace nbos::io
