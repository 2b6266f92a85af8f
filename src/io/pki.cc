#include "io/pki.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "io/event_loop.h"

namespace nbos::io {
namespace {

constexpr long kValidSeconds = 30L * 365 * 24 * 3600;
constexpr long kBackdateSeconds = 24L * 3600;  // clocks of hosts may differ
constexpr std::size_t kIdBytesMax = 64;        // ub-common-name, RFC 5280

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

Error io_error(std::string what) {
    return {.code = Errc::kIo, .certainty = Certainty::kDidNotHappen, .what = std::move(what)};
}

Error openssl_error(std::string_view step) {
    char text[256] = "no detail";
    if (const auto code = ERR_get_error(); code != 0) {
        ERR_error_string_n(code, text, sizeof text);
    }
    ERR_clear_error();
    return io_error(fmt::format("{}: OpenSSL: {}", step, text));
}

// Holds the folder's lock while alive.
class FolderLock {
public:
    explicit FolderLock(const std::string& dir)
        : fd_(open((dir + "/.lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)) {
        while (fd_ >= 0 && flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
        }
    }
    ~FolderLock() {
        if (fd_ >= 0) {
            close(fd_);
        }
    }
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;
    bool held() const { return fd_ >= 0; }

private:
    int fd_;
};

Status write_private(const std::string& path, std::string_view text) {
    const std::string temporary = path + ".new";
    const int fd = open(temporary.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    bool good = fd >= 0 && fchmod(fd, 0600) == 0;
    while (good && !text.empty()) {
        const ssize_t written = write(fd, text.data(), text.size());
        good = written > 0 || (written < 0 && errno == EINTR);
        text.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
    good = good && fsync(fd) == 0 && rename(temporary.c_str(), path.c_str()) == 0;
    const int problem = errno;
    if (fd >= 0) {
        close(fd);
    }
    if (!good) {
        return io_error(fmt::format("cannot write {}: {}; make the folder writable for this user",
                                    path, std::strerror(problem)));
    }
    return ok();
}

std::string contents(BIO* memory) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(memory, &data);
    return {data, static_cast<std::size_t>(size)};
}

Status write_key(const std::string& path, EVP_PKEY* key) {
    const Bio memory(BIO_new(BIO_s_secmem()), BIO_free_all);
    if (PEM_write_bio_PKCS8PrivateKey(memory.get(), key, nullptr, nullptr, 0, nullptr, nullptr) !=
        1) {
        return openssl_error("encode a private key");
    }
    return write_private(path, contents(memory.get()));
}

Status write_certificate(const std::string& path, X509* certificate) {
    const Bio memory(BIO_new(BIO_s_mem()), BIO_free_all);
    if (PEM_write_bio_X509(memory.get(), certificate) != 1) {
        return openssl_error("encode a certificate");
    }
    return write_private(path, contents(memory.get()));
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

bool set_names(X509* certificate, X509* issuer, const std::string& name) {
    X509_NAME* subject = X509_get_subject_name(certificate);
    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(name.data()),
                                      static_cast<int>(name.size()), -1, 0) == 1 &&
           X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1;
}

// Everything but the signature. `issuer` is the certificate itself for the authority.
bool fill(X509* certificate, X509* issuer, const std::string& name, EVP_PKEY* key) {
    const bool authority = certificate == issuer;
    const auto serial = random_u64() >> 1U;  // positive, and never the same twice
    return X509_set_version(certificate, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -kBackdateSeconds) != nullptr &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), kValidSeconds) != nullptr &&
           X509_set_pubkey(certificate, key) == 1 && set_names(certificate, issuer, name) &&
           add_extension(certificate, issuer, NID_basic_constraints,
                         authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
           add_extension(
               certificate, issuer, NID_key_usage,
               authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
           (authority ||
            add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth")) &&
           (authority || add_extension(certificate, issuer, NID_subject_alt_name, "DNS:" + name)) &&
           add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
}

// A key and a certificate for `name`; signed by `authority_key`, or by itself when that is null.
Status make_pair_of_files(const std::string& certificate_path, const std::string& key_path,
                          const std::string& name, X509* authority, EVP_PKEY* authority_key) {
    const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const Certificate certificate(X509_new(), X509_free);
    if (!key || !certificate ||
        !fill(certificate.get(), authority != nullptr ? authority : certificate.get(), name,
              key.get()) ||
        X509_sign(certificate.get(), authority_key != nullptr ? authority_key : key.get(),
                  EVP_sha256()) == 0) {
        return openssl_error("make a certificate for " + name);
    }
    // The certificate last: where it stands, the key stands too.
    if (auto written = write_key(key_path, key.get()); !written) {
        return written;
    }
    return write_certificate(certificate_path, certificate.get());
}

struct Authority {
    Certificate certificate{nullptr, X509_free};
    Key key{nullptr, EVP_PKEY_free};
};

Result<Authority> load_authority(const std::string& dir) {
    Authority authority;
    const Bio certificate(BIO_new_file((dir + "/authority.pem").c_str(), "r"), BIO_free_all);
    const Bio key(BIO_new_file((dir + "/authority-key.pem").c_str(), "r"), BIO_free_all);
    if (!certificate || !key) {
        ERR_clear_error();
        return Error{.code = Errc::kNotFound,
                     .what = fmt::format("{} holds no authority (authority.pem and "
                                         "authority-key.pem); issue certificates on the machine "
                                         "that made the cluster and copy them here",
                                         dir)};
    }
    authority.certificate.reset(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
    authority.key.reset(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
    if (!authority.certificate || !authority.key) {
        return openssl_error("read the authority in " + dir);
    }
    return authority;
}

bool good_id(std::string_view id) {
    return !id.empty() && id.size() <= kIdBytesMax && id.front() != '.' && id != "authority" &&
           !id.ends_with("-key") &&  // "a-key.pem" is the key of "a"
           std::all_of(id.begin(), id.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.';
           });
}

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

Status ensure_authority(const std::string& dir) {
    std::error_code failure;
    std::filesystem::create_directories(dir, failure);
    if (failure) {
        return io_error(fmt::format("cannot make {}: {}", dir, failure.message()));
    }
    const FolderLock lock(dir);
    if (!lock.held()) {
        return io_error(
            fmt::format("cannot lock {}/.lock: {}; make the folder writable for this "
                        "user",
                        dir, std::strerror(errno)));
    }
    if (exists(dir + "/authority.pem")) {
        return ok();
    }
    log_info("pki", "making a certificate authority in {}", dir);
    return make_pair_of_files(dir + "/authority.pem", dir + "/authority-key.pem", "nbos-authority",
                              nullptr, nullptr);
}

Result<TlsFiles> issue(const std::string& dir, const std::string& id) {
    if (!good_id(id)) {
        return Error{.code = Errc::kInvalid,
                     .what = fmt::format("'{}' cannot name a process: use 1 to {} letters, digits, "
                                         "'-', '_' and '.', not starting with '.' or ending with "
                                         "'-key'",
                                         id, kIdBytesMax)};
    }
    const TlsFiles files{.authority = dir + "/authority.pem",
                         .certificate = dir + "/" + id + ".pem",
                         .key = dir + "/" + id + "-key.pem"};
    if (exists(files.certificate) && exists(files.key)) {
        return files;
    }
    const FolderLock lock(dir);
    if (!lock.held()) {
        return io_error(fmt::format("cannot lock {}/.lock: {}", dir, std::strerror(errno)));
    }
    if (exists(files.certificate) && exists(files.key)) {
        return files;
    }
    const auto authority = load_authority(dir);
    if (!authority) {
        return authority.error();
    }
    if (auto made = make_pair_of_files(files.certificate, files.key, id,
                                       authority->certificate.get(), authority->key.get());
        !made) {
        return std::move(made).error();
    }
    return files;
}

}  // namespace nbos::io
