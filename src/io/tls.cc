#include "io/tls.h"

#include <fmt/core.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace nbos::io {

// The two ends of a session's pipe: OpenSSL reads `input_` and appends to `output_`.
struct TlsBio {
    static int read(BIO* bio, char* out, int size) {
        auto& input = static_cast<TlsSession*>(BIO_get_data(bio))->input_;
        BIO_clear_retry_flags(bio);
        const std::size_t n = std::min(static_cast<std::size_t>(std::max(size, 0)), input.size());
        if (n == 0) {
            BIO_set_retry_read(bio);
            return -1;
        }
        std::memcpy(out, input.data(), n);
        input.remove_prefix(n);
        return static_cast<int>(n);
    }
    static int write(BIO* bio, const char* data, int size) {
        BIO_clear_retry_flags(bio);
        static_cast<TlsSession*>(BIO_get_data(bio))
            ->output_.append(data, static_cast<std::size_t>(size));
        return size;
    }
    static long control(BIO*, int command, long, void*) {
        return command == BIO_CTRL_FLUSH ? 1 : 0;
    }
    static BIO_METHOD* method() {
        static BIO_METHOD* const kMethod = [] {
            BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "nbos");
            BIO_meth_set_read(made, read);
            BIO_meth_set_write(made, write);
            BIO_meth_set_ctrl(made, control);
            return made;
        }();
        return kMethod;
    }
};

namespace {

std::string openssl_reason() {
    const auto code = ERR_peek_last_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    std::string text = reason == nullptr ? "no detail" : reason;
    ERR_clear_error();
    return text;
}

Error load_error(const std::string& path, std::string_view advice) {
    return {.code = Errc::kIo,
            .what = fmt::format("cannot use {}: {}; {}", path, openssl_reason(), advice)};
}

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::load(const TlsFiles& files) {
    const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
    SSL_CTX* raw = context.get();
    NBOS_CHECK(raw != nullptr, "OpenSSL cannot make a context");
    ERR_clear_error();
    SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
    SSL_CTX_set_num_tickets(raw, 0);  // connections are few and long: no resumption
    SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    if (SSL_CTX_load_verify_locations(raw, files.authority.c_str(), nullptr) != 1) {
        return load_error(files.authority, "it must be the cluster's authority as PEM");
    }
    if (SSL_CTX_use_certificate_chain_file(raw, files.certificate.c_str()) != 1) {
        return load_error(files.certificate, "it must be this process's certificate as PEM");
    }
    if (SSL_CTX_use_PrivateKey_file(raw, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
        return load_error(files.key, "it must be the private key of " + files.certificate);
    }
    return std::shared_ptr<TlsContext>(new TlsContext(context));
}

TlsSession::TlsSession(TlsContext& context, Side side) : ssl_(SSL_new(context.native())) {
    NBOS_CHECK(ssl_ != nullptr, "OpenSSL cannot make a session");
    BIO* bio = BIO_new(TlsBio::method());
    NBOS_CHECK(bio != nullptr, "OpenSSL cannot make a BIO");
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_, bio, bio);
    if (side == Side::kDials) {
        SSL_set_connect_state(ssl_);
    } else {
        SSL_set_accept_state(ssl_);
    }
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Step TlsSession::judge(int result) {
    switch (SSL_get_error(ssl_, result)) {
        case SSL_ERROR_WANT_READ:
            return Step::kNeedsInput;
        case SSL_ERROR_ZERO_RETURN:
            return Step::kClosed;
        default: {
            const long verified = SSL_get_verify_result(ssl_);
            failure_ = verified == X509_V_OK
                           ? openssl_reason()
                           : fmt::format(
                                 "its certificate is refused ({}); issue it with this "
                                 "cluster's authority",
                                 X509_verify_cert_error_string(verified));
            ERR_clear_error();
            return Step::kFailed;
        }
    }
}

TlsSession::Step TlsSession::handshake() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    return result == 1 ? Step::kDone : judge(result);
}

TlsSession::Step TlsSession::read(std::string& plain) {
    ERR_clear_error();
    while (true) {
        std::size_t got = 0;
        const int result = SSL_read_ex(ssl_, record_.data(), record_.size(), &got);
        if (result != 1) {
            return judge(result);
        }
        plain.append(record_.data(), got);
    }
}

bool TlsSession::write(std::string_view plain) {
    ERR_clear_error();
    std::size_t written = 0;
    while (!plain.empty()) {
        if (SSL_write_ex(ssl_, plain.data(), plain.size(), &written) != 1) {
            failure_ = openssl_reason();
            return false;
        }
        plain.remove_prefix(written);
    }
    return true;
}

void TlsSession::close_notify() {
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_) == 1) {
        SSL_shutdown(ssl_);
    }
    ERR_clear_error();
}

std::string TlsSession::peer_name() const {
    const X509* certificate = SSL_get0_peer_certificate(ssl_);
    if (certificate == nullptr) {
        return {};
    }
    const X509_NAME* subject = X509_get_subject_name(certificate);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
        return {};
    }
    const ASN1_STRING* text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
            static_cast<std::size_t>(ASN1_STRING_length(text))};
}

}  // namespace nbos::io
