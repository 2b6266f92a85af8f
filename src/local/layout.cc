#include "local/layout.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace nbos::local {
namespace {

std::string environment(const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread, start-up
    return value == nullptr ? std::string() : std::string(value);
}

std::filesystem::path home() {
    if (auto home = environment("HOME"); !home.empty()) {
        return home;
    }
    const passwd* user = getpwuid(getuid());  // NOLINT(concurrency-mt-unsafe): as above
    return user == nullptr ? "/" : user->pw_dir;
}

}  // namespace

Layout layout_of(const std::string& given) {
    std::filesystem::path path = given;
    if (path.empty()) {
        path = environment("NBOS_DATA");
    }
    if (path.empty()) {
        path = home() / ".local" / "share" / "nbos";
    }
    return Layout{std::filesystem::absolute(path).lexically_normal()};
}

}  // namespace nbos::local
