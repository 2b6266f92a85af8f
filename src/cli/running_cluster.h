// The cluster that `nbos up` started from a data directory, seen from another command.
//
// Threads  One; calls block. Errors say what to do.
#pragma once

#include <boost/json/value.hpp>
#include <string>

#include "base/result.h"
#include "io/http_client.h"
#include "local/layout.h"
#include "local/run_record.h"

namespace nbos::cli {

class RunningCluster {
public:
    // kNotFound: nothing runs from there. `data` as given with --data; may be empty.
    static Result<RunningCluster> find(const std::string& data);

    // The gateway's JSON interface; `path` begins with /api/. An answer of 400 or more is an error
    // with the gateway's own words.
    Result<boost::json::value> get(const std::string& path) const;
    Result<boost::json::value> post(const std::string& path, const boost::json::value& body) const;
    Status remove(const std::string& path) const;

    // The supervisor's answer; kIo with what it says when it refuses.
    Result<boost::json::value> supervisor(const boost::json::value& request) const;

    // A kernel's whole id from its beginning. kNotFound or kInvalid (several) name what there is.
    Result<std::string> kernel_id(const std::string& beginning, bool parked_too = false) const;

    const local::Layout& layout() const { return layout_; }
    const local::RunRecord& record() const { return record_; }
    const std::string& token() const { return token_; }  // a secret

private:
    Result<io::HttpAnswer> ask(const std::string& gateway, const std::string& method,
                               const std::string& path, const std::string& body) const;
    Result<boost::json::value> call(const std::string& method, const std::string& path,
                                    const std::string& body) const;

    local::Layout layout_;
    local::RunRecord record_;
    std::string token_;
};

// For the table cells of JSON answers: text as it is, numbers and truth values written out.
std::string text_of(const boost::json::value& object, std::string_view field);

}  // namespace nbos::cli
