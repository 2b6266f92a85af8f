// The cluster's own certificate authority: who is a process of this cluster, and which one.
//
// A folder holds the authority (`authority.pem`, `authority-key.pem`) and one pair of files per
// process (`<id>.pem`, `<id>-key.pem`). Keys are ECDSA P-256, files have mode 0600, the common name
// of a certificate is the id of its process. Hosts get their own pair and `authority.pem`, never
// the authority's key.
//
// Threads  Blocking file work; call at start-up. Several processes may share a folder: a lock file
//          in it makes each step atomic between them.
// Errors   kIo with the path and what to do; kInvalid for an id that cannot be a file name.
#pragma once

#include <string>

#include "base/result.h"

namespace nbos::io {

struct TlsFiles {
    std::string authority;  // PEM files
    std::string certificate;
    std::string key;
};

// Makes the folder and the authority unless they are there.
Status ensure_authority(const std::string& dir);

// The files of process `id`, made now unless they are there. kNotFound: the folder has neither the
// files nor an authority's key to make them with.
Result<TlsFiles> issue(const std::string& dir, const std::string& id);

}  // namespace nbos::io
