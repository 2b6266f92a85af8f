// The ids of the project, each a type of its own.
#pragma once

#include <cstdint>
#include <string>

#include "base/strong.h"
#include "base/uuid.h"

namespace nbos {

using KernelId = Strong<struct KernelTag, Uuid>;  // as Jupyter clients see it
using GroupId = Strong<struct GroupTag, Uuid>;    // a Raft group; a kernel's group has its id
using HostId = Strong<struct HostTag, std::string>;

// One placement of a replica, or of a Raft node: never reused, also when a replica returns to a
// host that it left (the rejoin bug: etcd-io/raft#349). 0 is nobody.
using ReplicaId = Strong<struct ReplicaTag>;

using Term = Strong<struct TermTag>;
using Index = Strong<struct IndexTag>;

using CellNumber = Strong<struct CellTag>;  // counts the Submit entries of a kernel, from 1
using Epoch = Strong<struct EpochTag>;      // of a claim; see docs/design/0002-cell-log.md
using Sequence =
    Strong<struct SequenceTag>;  // counts accepted deltas, from 1; 0 is the empty state

}  // namespace nbos
