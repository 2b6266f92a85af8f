// Boost.JSON compiled into this library, so that nothing of Boost must be linked.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <boost/json/src.hpp>
#pragma GCC diagnostic pop
