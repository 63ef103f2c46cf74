// Stands in for Apple's header where there is no Mac (tools/check-mac): as in Apple's published IOKitUser, IOKitLib.h.
#ifndef STORYFARM_TOOLS_MAC_IOKITLIB_H_
#define STORYFARM_TOOLS_MAC_IOKITLIB_H_

#include <CoreFoundation/CoreFoundation.h>
#include <mach/mach.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef kern_return_t IOReturn;
typedef mach_port_t io_object_t;
typedef io_object_t io_service_t;
typedef io_object_t io_registry_entry_t;
typedef uint32_t IOOptionBits;
enum { kIOReturnSuccess = 0 };

kern_return_t IOObjectRelease(io_object_t object);
CFMutableDictionaryRef IOServiceMatching(const char* name);
// Takes the reference to `matching`.
io_service_t IOServiceGetMatchingService(mach_port_t main_port, CFDictionaryRef matching);
CFTypeRef IORegistryEntryCreateCFProperty(io_registry_entry_t entry, CFStringRef key, CFAllocatorRef allocator,
                                          IOOptionBits options);

#ifdef __cplusplus
}
#endif

#endif  // STORYFARM_TOOLS_MAC_IOKITLIB_H_
