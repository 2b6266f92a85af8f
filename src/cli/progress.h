// How far something is, for the person who waits: a bar on a terminal, a line a step elsewhere.
#pragma once

#include <string>
#include <string_view>

namespace nbos::cli {

class Progress {
public:
    Progress();  // to standard error; a bar only if that is a terminal
    void show(int percent, std::string_view what);
    void finish();  // clears the bar

private:
    bool terminal_;
    std::string last_;
};

}  // namespace nbos::cli
