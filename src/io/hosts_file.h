// The list of a cluster's hosts: {"hosts": {"host-1": "127.0.1.1:7001", ...}}, a file that a
// provider writes (by rename) and every process of the cluster reads.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "model/ids.h"

namespace nbos::io {

using HostAddresses = std::map<HostId, std::string>;

// kIo: cannot be read. kInvalid: not of this form; `what` names the file.
Result<HostAddresses> read_hosts_file(const std::string& path);

// Tells when the file is another one than last time.
class HostsFile {
public:
    explicit HostsFile(std::string path) : path_(std::move(path)) {}
    // nullopt: unchanged, missing, or malformed (then it is logged and the last good one stays).
    std::optional<HostAddresses> changed();

private:
    std::string path_;
    std::string last_;
};

}  // namespace nbos::io
