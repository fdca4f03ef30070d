"""What a node says it can do for virtual machines, by `brume info` and over HTTP."""
import json
import shutil


def test_verdict(clean):
    info = json.loads(clean.out("info", "-f", "json"))
    facts = info["nodes"][0]["status"]["virtualization"]
    assert set(facts) - {"backend"} == {"usable", "nested_paging", "apicv", "iommu", "ring0_mips", "ring3_mips", "why"}
    assert facts["why"] and "\n" not in facts["why"]
    if facts["usable"]:
        assert facts["ring0_mips"] > 50 and facts["ring3_mips"] > 50
    else:
        assert facts.get("backend") != "brume-vmm"
    if shutil.which("qemu-system-x86_64"):
        assert facts["backend"] in ("qemu", "brume-vmm")

    text = clean.out("info")
    assert f"{facts.get('backend', 'none')}: {facts['why']}" in text
    assert f"ring 0 {facts['ring0_mips']:.1f}, ring 3 {facts['ring3_mips']:.1f} million instructions a second" in text
    assert f"nested paging {'yes' if facts['nested_paging'] else 'no'}" in text
