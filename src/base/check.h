// NBOS_CHECK: a broken invariant is a bug, in release builds too. It prints where and stops.
#pragma once

#include <string_view>

namespace nbos {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view what);

}  // namespace nbos

#define NBOS_CHECK(condition, what)                                       \
    do {                                                                  \
        if (!(condition)) [[unlikely]] {                                  \
            ::nbos::check_failed(__FILE__, __LINE__, #condition, (what)); \
        }                                                                 \
    } while (false)
