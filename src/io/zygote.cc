#include "io/zygote.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <istream>
#include <utility>

#include "base/log.h"
#include "jupyter/json_field.h"
#include "jupyter/json_text.h"

extern char** environ;  // NOLINT: POSIX declares it nowhere

namespace nbos::io {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;

constexpr std::size_t kStderrKept = 4096;
constexpr std::size_t kLineMax = 64U << 10U;
constexpr int kLifelineThere = 3;  // the descriptor's number in the zygote

// The process, and the reading end of its standard error.
struct Spawned {
    pid_t pid = -1;
    int stderr_fd = -1;
    int process_fd = -1;  // readable when it has ended
    std::string error;
};

std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> out;
    out.reserve(words.size() + 1);
    for (const auto& word : words) {
        out.push_back(const_cast<char*>(word.c_str()));  // NOLINT: the C interface
    }
    out.push_back(nullptr);
    return out;
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& more) {
    std::vector<std::string> out;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        if (!text.starts_with("NBOS_") &&
            !more.contains(std::string(text.substr(0, text.find('='))))) {
            out.emplace_back(text);
        }
    }
    for (const auto& [name, value] : more) {
        out.push_back(fmt::format("{}={}", name, value));
    }
    return out;
}

std::string system_error(const std::string& what) {
    return what + ": " + std::strerror(errno);  // NOLINT(concurrency-mt-unsafe)
}

// Standard error is a pipe with a name, which the zygote holds open for reading too: it and its
// children can write to it when nobody is at the other end any more.
Spawned spawn(const ZygoteCommand& command, const std::string& directory, int lifeline) {
    Spawned out;
    const auto pipe = directory + "/stderr";
    unlink(pipe.c_str());
    if (mkfifo(pipe.c_str(), S_IRUSR | S_IWUSR) != 0) {
        return {.error = system_error("make " + pipe)};
    }
    out.stderr_fd = open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (out.stderr_fd < 0) {
        return {.error = system_error("open " + pipe)};
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, pipe.c_str(), O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (lifeline >= 0) {
        posix_spawn_file_actions_adddup2(&actions, lifeline, kLifelineThere);
    }
    // Not every socket of ours is closed by exec, and one that listens must end with us.
    posix_spawn_file_actions_addclosefrom_np(&actions, kLifelineThere + (lifeline >= 0 ? 1 : 0));
    const auto argv = pointers(command.argv);
    const auto environment = environment_with(command.env);
    const int failed = posix_spawnp(&out.pid, argv[0], &actions, nullptr, argv.data(),
                                    pointers(environment).data());
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) {
        out.pid = -1;
        out.error = fmt::format("cannot run {}: {}", command.argv.front(),
                                std::strerror(failed));  // NOLINT(concurrency-mt-unsafe)
        return out;
    }
    out.process_fd = static_cast<int>(syscall(SYS_pidfd_open, out.pid, 0));
    if (out.process_fd < 0) {
        out.error = system_error("watch the zygote (pidfd_open, Linux 5.3 or newer)");
        kill(out.pid, SIGKILL);
        waitpid(std::exchange(out.pid, -1), nullptr, 0);
    }
    return out;
}

std::string ending(int status) {
    if (WIFSIGNALED(status)) {
        return fmt::format("killed by signal {}", WTERMSIG(status));
    }
    return fmt::format("exit status {}", WEXITSTATUS(status));
}

std::string child_ending(const std::string& line) {
    if (auto why = jupyter::string_field(line, "why"); !why.empty()) {
        return why;
    }
    const auto signal = jupyter::uint_field(line, "signal");
    if (signal == 9) {
        return "killed by SIGKILL (out of memory, or by hand)";
    }
    if (signal != 0) {
        return fmt::format("killed by signal {}", signal);
    }
    return fmt::format("exit status {}", jupyter::uint_field(line, "exit"));
}

}  // namespace

class Zygote::Impl : public std::enable_shared_from_this<Impl> {
public:
    Impl(EventLoop& loop, ZygoteCommand command, std::string directory, int lifeline,
         Callbacks callbacks)
        : io_(*static_cast<asio::io_context*>(loop.native())),
          command_(std::move(command)),
          directory_(std::move(directory)),
          path_(directory_ + "/zygote.sock"),
          lifeline_(lifeline),
          callbacks_(std::move(callbacks)),
          acceptor_(io_),
          socket_(io_),
          stderr_(io_),
          process_(io_) {
        command_.argv.emplace_back("--socket");
        command_.argv.push_back(path_);
        if (lifeline_ >= 0) {
            command_.argv.emplace_back("--lifeline");
            command_.argv.push_back(std::to_string(kLifelineThere));
        }
    }

    void fork(const std::string& line) {
        outbox_.push_back(line);
        if (pid_ < 0) {
            start();
        } else {
            write_next();
        }
    }

    void close() {
        callbacks_ = {};
        if (pid_ > 0) {
            kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
            pid_ = -1;
        }
        boost::system::error_code ignored;
        acceptor_.close(ignored);
        socket_.close(ignored);
        stderr_.close(ignored);
        process_.close(ignored);
        unlink(path_.c_str());
    }

    bool running() const { return pid_ > 0; }

private:
    void start() {
        listen();
        auto spawned = spawn(command_, directory_, lifeline_);
        stderr_tail_.clear();
        if (spawned.pid < 0) {
            if (spawned.stderr_fd >= 0) {
                ::close(spawned.stderr_fd);
            }
            asio::post(io_, [self = shared_from_this(), why = spawned.error] { self->end(why); });
            return;
        }
        pid_ = spawned.pid;
        stderr_.assign(spawned.stderr_fd);
        process_.assign(spawned.process_fd);
        read_stderr();
        process_.async_wait(asio::posix::stream_descriptor::wait_read,
                            [self = shared_from_this()](boost::system::error_code error) {
                                if (!error) {
                                    self->reap();
                                }
                            });
    }

    void listen() {
        unlink(path_.c_str());
        acceptor_ = stream_protocol::acceptor(io_);
        acceptor_.open();
        acceptor_.bind(stream_protocol::endpoint(path_));
        acceptor_.listen(1);
        acceptor_.async_accept([self = shared_from_this()](boost::system::error_code error,
                                                           stream_protocol::socket s) {
            if (!error) {
                self->socket_ = std::move(s);
                self->connected_ = true;
                self->read_line();
                self->write_next();
            }
        });
    }

    void write_next() {
        if (!connected_ || writing_ || outbox_.empty()) {
            return;
        }
        writing_ = true;
        asio::async_write(
            socket_, asio::buffer(outbox_.front()),
            [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                self->writing_ = false;
                if (!error) {
                    self->outbox_.pop_front();
                    self->write_next();
                }
            });
    }

    void read_line() {
        asio::async_read_until(
            socket_, in_, '\n',
            [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                if (error) {
                    return;  // its end is seen by its descriptor
                }
                std::string line;
                std::istream stream(&self->in_);
                std::getline(stream, line);
                self->take(line);
                self->read_line();
            });
    }

    void take(const std::string& line) {
        const bool ended = line.find("\"exit\"") != std::string::npos ||
                           line.find("\"signal\"") != std::string::npos;
        if (ended && callbacks_.child_ended) {
            callbacks_.child_ended(jupyter::string_field(line, "token"), child_ending(line),
                                   quoted_tail());
        }
    }

    // Interpreters write here too (it is their standard error as long as they have no cell). The
    // end of the pipe comes with that of the last of them.
    void read_stderr() {
        stderr_.async_read_some(
            asio::buffer(chunk_),
            [self = shared_from_this()](boost::system::error_code error, std::size_t size) {
                if (!error) {
                    self->keep_stderr(size);
                    self->read_stderr();
                }
            });
    }

    void keep_stderr(std::size_t size) {
        stderr_tail_.append(chunk_.data(), size);
        if (stderr_tail_.size() > kStderrKept) {
            stderr_tail_.erase(0, stderr_tail_.size() - kStderrKept);
        }
    }

    void reap() {
        if (pid_ < 0) {
            return;
        }
        int status = 0;
        waitpid(pid_, &status, 0);
        pid_ = -1;
        boost::system::error_code none_left;
        while (const auto size = stderr_.read_some(asio::buffer(chunk_), none_left)) {
            keep_stderr(size);
        }
        end(ending(status));
    }

    void end(const std::string& why) {
        boost::system::error_code ignored;
        acceptor_.close(ignored);
        socket_.close(ignored);
        stderr_.close(ignored);
        process_.close(ignored);
        connected_ = false;
        writing_ = false;
        outbox_.clear();
        in_.consume(in_.size());
        if (callbacks_.ended) {
            const auto ended = callbacks_.ended;
            ended(fmt::format("{} {}{}", command_.argv.front(), why, quoted_tail()));
        }
    }

    std::string quoted_tail() const {
        return stderr_tail_.empty() ? std::string() : "; it wrote: " + stderr_tail_;
    }

    asio::io_context& io_;
    ZygoteCommand command_;
    std::string directory_;
    std::string path_;
    int lifeline_;
    Callbacks callbacks_;
    stream_protocol::acceptor acceptor_;
    stream_protocol::socket socket_;
    asio::posix::stream_descriptor stderr_;
    asio::posix::stream_descriptor process_;
    asio::streambuf in_{kLineMax};
    std::array<char, 4096> chunk_{};
    std::deque<std::string> outbox_;
    std::string stderr_tail_;
    pid_t pid_ = -1;
    bool connected_ = false;
    bool writing_ = false;
};

Zygote::Zygote(EventLoop& loop, ZygoteCommand command, std::string directory, int lifeline,
               Callbacks callbacks)
    : impl_(std::make_shared<Impl>(loop, std::move(command), std::move(directory), lifeline,
                                   std::move(callbacks))) {}

Zygote::~Zygote() { impl_->close(); }

void Zygote::fork(const std::string& token, const std::string& directory,
                  const std::string& state_socket) {
    impl_->fork(fmt::format(R"({{"op": "fork", "token": {}, "dir": {}, "state_socket": {}}})"
                            "\n",
                            jupyter::json_quoted(token), jupyter::json_quoted(directory),
                            jupyter::json_quoted(state_socket)));
}

bool Zygote::running() const { return impl_->running(); }

}  // namespace nbos::io
