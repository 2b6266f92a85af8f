// The kernelspecs that this gateway offers: the built-in one and those of kernel.json folders.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "jupyter/rest_models.h"

namespace nbos::gateway {

class Kernelspecs {
public:
    Kernelspecs();  // with the built-in spec, which is the default

    void add(jupyter::KernelSpec spec);  // replaces one of the same name
    const jupyter::KernelSpec* find(std::string_view name) const;
    const std::map<std::string, jupyter::KernelSpec, std::less<>>& all() const { return specs_; }
    const std::string& default_name() const { return default_name_; }
    std::string names() const;  // "python3, r", for messages

private:
    std::map<std::string, jupyter::KernelSpec, std::less<>> specs_;
    std::string default_name_;
};

}  // namespace nbos::gateway
