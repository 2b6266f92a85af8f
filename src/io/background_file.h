// A small file that is rewritten often, without making the loop wait for the disk.
//
// Written beside the file and renamed over it: a crash leaves the old text or the new one. Texts
// that are overtaken before their turn are never written.
//
// Threads  save() on any thread; one thread of its own writes. The destructor writes what is left.
// Errors   Logged: the caller can do nothing about a full disk.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"

namespace nbos::io {

class BackgroundFile {
public:
    explicit BackgroundFile(std::string path);
    ~BackgroundFile();
    BackgroundFile(const BackgroundFile&) = delete;
    BackgroundFile& operator=(const BackgroundFile&) = delete;

    void save(std::string text);

private:
    void run();

    std::string path_;
    std::mutex mutex_;  // over the three below
    std::condition_variable changed_;
    std::optional<std::string> waiting_;
    bool stopping_ = false;
    std::thread writer_;
};

// Replaces a file's text, durably and atomically; its mode becomes 0600. kIo, with the path.
Status replace_file(const std::string& path, const std::string& text);

}  // namespace nbos::io
