// TLS 1.3 without a socket: bytes in, bytes out.
//
// A session encrypts into `output()` and decrypts what feed() gives it, so that whoever owns the
// socket decides how many bytes one system call carries (OpenSSL on a socket writes once per 16 KB
// record).
//
// Threads  A context may be shared; a session belongs to one thread.
// Errors   Only of this connection: the session is dead after Step::kFailed, and failure() says
// why.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/pki.h"

struct ssl_ctx_st;
struct ssl_st;
struct bio_st;

namespace nbos::io {

class TlsContext {
public:
    // kIo with the file and what to do: unreadable, not PEM, key of another certificate.
    static Result<std::shared_ptr<TlsContext>> load(const TlsFiles& files);
    ssl_ctx_st* native() { return context_.get(); }

private:
    explicit TlsContext(std::shared_ptr<ssl_ctx_st> context) : context_(std::move(context)) {}
    std::shared_ptr<ssl_ctx_st> context_;  // counted by OpenSSL, too; shared_ptr for its deleter
};

class TlsSession {
public:
    enum class Side : std::uint8_t { kDials, kAccepts };
    enum class Step : std::uint8_t { kDone, kNeedsInput, kClosed, kFailed };

    TlsSession(TlsContext& context, Side side);
    ~TlsSession();
    TlsSession(const TlsSession&) = delete;
    TlsSession& operator=(const TlsSession&) = delete;

    // `bytes` must live until handshake() or read() has answered kNeedsInput.
    void feed(std::string_view bytes) { input_ = bytes; }
    Step handshake();
    // Appends what could be decrypted to `plain`; kNeedsInput when all that was fed is used up.
    Step read(std::string& plain);
    bool write(std::string_view plain);  // into output(); false: dead
    void close_notify();

    std::string& output() { return output_; }
    std::string peer_name() const;  // the common name; empty unless there is exactly one
    const std::string& failure() const { return failure_; }

private:
    friend struct TlsBio;
    Step judge(int result);

    ssl_st* ssl_;
    std::vector<char> record_ = std::vector<char>(16U << 10U);  // the largest plaintext of one
    std::string_view input_;
    std::string output_;
    std::string failure_;
};

}  // namespace nbos::io
